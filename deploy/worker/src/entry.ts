import { type FirstlightEnv, withFirstlight } from "./firstlight";
import worker from "./worker";

export default withFirstlight<FirstlightEnv>(worker);
