// What Hugging Face's own implementation (npm package "tokenizers") makes of small made
// vocabularies behind every chain of steps we know: tests/data/tokenizers.json, which
// tokenizer_oracle_test.c reads.
//
//   node tokenizers.mjs FILE           compares FILE with what the package says now
//   node tokenizers.mjs --write FILE   writes it
import { readFileSync, writeFileSync } from "node:fs";
import tokenizers from "tokenizers";

const { Tokenizer } = tokenizers;

// ---- two vocabularies, trained without regard to words: a cut in a wrong place shows ----

const corpus = [
  "Hello world, it's the year 2024 and we'll see 1234567 things; don't they've I'M you'RE HE'S",
  "for (int i = 0; i < n; i++) {\n        sum += a[i];\n    }\n\n\n\treturn sum;\r\n\r\n  // done  ",
  "The quick brown fox jumps over the lazy dog.   Ünïcödé naïve café façade Straße ÅNGSTRÖM",
  "中文字符测试，你好世界。日本語のテキスト カタカナ 한국어 텍스트 Привет мир שלום עולם مرحبا",
  "😀🎉👨‍👩‍👧‍👦🇩🇪 e\u0301 o\u0308 ﬁ ﬂ ２０２４ ①②③ Ⅷ ½ ǅ ʰ ª º İstanbul ΣΊΣΥΦΟΣ",
  "camelCaseXMLHttpRequest PascalCase snake_case_word CONSTANT_CASE path/to/file.txt https://a.b/c?d=e",
  "== != <= >= -> => ... --- *** ### ``` $$ %% && || ~~ (x) [y] {z} <w> \"q\" 'r' “s” ‘t’ –—",
  "aaaaaaaaaaaaaaaa bbbb    cccc\t\tdddd\n\n\n\neeee 0000000000 1 22 333 4444 55555",
];

function train(words, merges) {
  const pairs = [];
  for (let round = 0; round < merges; round++) {
    const count = new Map();
    for (const word of words) {
      for (let i = 0; i + 1 < word.length; i++) {
        const key = word[i] + " " + word[i + 1];
        count.set(key, (count.get(key) ?? 0) + 1);
      }
    }
    let best = null;
    for (const [key, n] of count) {
      if (best === null || n > count.get(best) || (n === count.get(best) && key < best)) best = key;
    }
    if (best === null) break;
    const [left, right] = best.split(" ");
    pairs.push([left, right]);
    words = words.map((word) => {
      const out = [];
      for (let i = 0; i < word.length; i++) {
        if (i + 1 < word.length && word[i] === left && word[i + 1] === right) {
          out.push(left + right);
          i++;
        } else out.push(word[i]);
      }
      return out;
    });
  }
  return pairs;
}

function letters() {
  const out = [];
  let next = 0x100;
  for (let b = 0; b < 256; b++) {
    const self = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    out.push(String.fromCharCode(self ? b : next++));
  }
  return out;
}

function addPairs(vocab, pairs) {
  for (const [left, right] of pairs) if (!(left + right in vocab)) vocab[left + right] = Object.keys(vocab).length;
}

function byteModel() {
  const alphabet = letters();
  const pairs = train(corpus.map((t) => [...Buffer.from(t, "utf8")].map((b) => alphabet[b])), 420);
  const vocab = Object.fromEntries(alphabet.map((c, i) => [c, i]));
  addPairs(vocab, pairs);
  return { type: "BPE", vocab, merges: pairs };
}

function blankModel() {
  const words = corpus.flatMap((t) => ("▁" + t.replaceAll(" ", "▁")).match(/▁+[^▁]*/g).map((w) => [...w]));
  const pairs = train(words, 300);
  const vocab = { "<unk>": 0, "<s>": 1, "</s>": 2 };
  for (let b = 0; b < 256; b++) vocab[`<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`] = 3 + b;
  for (const c of [..."▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?'\"()<>|=+-_/é中文のмир\n"]) {
    if (!(c in vocab)) vocab[c] = Object.keys(vocab).length;
  }
  const known = [];
  for (const [left, right] of pairs) {
    if (!(left in vocab) || !(right in vocab)) continue;
    if (!(left + right in vocab)) vocab[left + right] = Object.keys(vocab).length;
    known.push([left, right]);
  }
  return { type: "BPE", unk_token: "<unk>", byte_fallback: true, fuse_unk: true, vocab, merges: known };
}

const bases = { bytes: byteModel(), blanks: blankModel() };

// ---- chains of steps ----

const contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const tail = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const llama3 = `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}${tail}`;
const qwen2 = `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${tail}`;
const marks = `${contraction}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const cased = (s) => `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${s}|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${s}`;
const slashed = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const tekken = `${cased("")}|\\p{N}${slashed}`;
const gpt4o = `${cased(contraction + "?")}|\\p{N}{1,3}${slashed}`;
const han = "[一-龥\u3040-ゟ゠-ヿ]+";
const deepseek3 =
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const regex = (pattern, behavior = "Isolated", invert = false) => ({ type: "Split", pattern: { Regex: pattern }, behavior, invert });
const string = (pattern, behavior = "Isolated", invert = false) => ({ type: "Split", pattern: { String: pattern }, behavior, invert });
const bytes = (use_regex = false, add_prefix_space = false) => ({ type: "ByteLevel", add_prefix_space, trim_offsets: true, use_regex });
const cuts = (...pretokenizers) => ({ type: "Sequence", pretokenizers });
const norms = (...normalizers) => ({ type: "Sequence", normalizers });
const byteDecoder = { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true };
const metaspace = (prepend_scheme, split) => ({ type: "Metaspace", replacement: "▁", prepend_scheme, split });
const replaceBlank = { type: "Replace", pattern: { String: " " }, content: "▁" };
const prependBlank = { type: "Prepend", prepend: "▁" };
const blankDecoder = (...more) => ({
  type: "Sequence",
  decoders: [{ type: "Replace", pattern: { String: "▁" }, content: " " }, { type: "ByteFallback" }, { type: "Fuse" }, ...more],
});
const metaspaceDecoder = (prepend_scheme, split) => ({ type: "Sequence", decoders: [{ type: "ByteFallback" }, metaspace(prepend_scheme, split)] });
const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
const sentencePiece = ["<unk>", "<s>", "</s>"].map((content, id) => token(id, content, { special: true }));

function token(id, content, flags = {}) {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: false, ...flags };
}

// A text that is a piece already keeps its id.
const behind = (vocab, list) => {
  let next = Object.keys(vocab).length;
  return list.map(([content, flags]) => token(vocab[content] ?? next++, content, flags));
};
const afterBytes = (...list) => behind(bases.bytes.vocab, list);
const afterBlanks = (...list) => [...sentencePiece, ...behind(bases.blanks.vocab, list)];

const special = { special: true };
const chatml = afterBytes(["<|endoftext|>", special], ["<|im_start|>", special], ["<|im_end|>", special], ["<tool_call>"], ["</tool_call>"], ["<think>"]);
const flags = afterBytes(
  ["<mask>", { special: true, lstrip: true }],
  ["<|end|>", { special: true, rstrip: true }],
  ["<both>", { lstrip: true, rstrip: true }],
  ["word", { single_word: true }],
  ["\n\n"],
  ["\n\n\n"],
  ["    "],
  ["<|im_start|>", special],
  ["<|im_start|><|im_start|>", special],
);

const onBytes = (name, pre_tokenizer, more = {}) => ({ name, base: "bytes", members: { pre_tokenizer, decoder: byteDecoder, ...more } });
const onBlanks = (name, members, model = {}) => ({ name, base: "blanks", model, members: { added_tokens: sentencePiece, ...members } });

// The chains that GGUF files have names for (models/tok_pre.c), and the names.
const digits = { type: "Digits", individual_digits: true };
const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const bailing = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
const seed = `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const bloom = " ?[^(\\s|.,!?…。，、।۔،)]+";
const asian = "[一-龥ࠀ-一가-\ud7ff]+";
const cased_letters = (() => {
  const escaped = 
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}";
  return "\\s?[" + escaped.replace(/\\x\{([0-9a-f]+)\}/g, (_, hex) => String.fromCodePoint(parseInt(hex, 16))) + "]+";
})();
const signs = "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+";
const onPre = (names, steps, model = {}) => ({ ...onBytes(`named ${names[0]}`, cuts(...steps), {}), model, pre: names });
const named = [
  onPre(["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"], [regex(llama3), bytes()], { ignore_merges: true }),
  onPre(["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], [regex(llama3), bytes()]),
  onPre(["gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "a.x-4.0", "mellum", "exaone4", "trillion", "granite-docling"], [bytes(true)]),
  onPre(["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"], [digits, bytes(true)]),
  onPre(["qwen2", "deepseek-r1-qwen", "megrez", "kormo", "f2llmv2", "hunyuan", "grok-2", "stablelm2"], [regex(qwen2), bytes()]),
  onPre(["qwen35"], [regex(marks), bytes()]),
  onPre(["tekken"], [regex(tekken), bytes()], { ignore_merges: true }),
  onPre(["gpt-4o", "llama4", "kanana2", "minimax-m2"], [regex(gpt4o), bytes()]),
  onPre(["deepseek-llm"], [regex("[\\r\\n]"), regex(cased_letters), regex(signs), regex("\\s+$"), regex(asian), digits, bytes()]),
  onPre(["deepseek-coder"], [regex("[\\r\\n]"), regex("\\s?\\p{L}+"), regex("\\s?\\p{P}+"), regex(asian), digits, bytes()]),
  onPre(["deepseek-v3", "hunyuan-dense"], [regex("\\p{N}{1,3}"), regex(han), regex(deepseek3), bytes()]),
  onPre(["falcon"], [{ type: "Punctuation", behavior: "Contiguous" }, regex(gpt2), regex("[0-9][0-9][0-9]"), bytes()]),
  onPre(["bailingmoe", "bailingmoe2", "llada-moe"], [regex(bailing), bytes()]),
  onPre(["seed-coder"], [regex(seed), bytes()]),
  onPre(["bloom", "poro-chat", "gpt3-finnish"], [regex(bloom), bytes()]),
  onPre(["viking"], [regex(bloom), digits, bytes()]),
  onPre(["superbpe"], [{ type: "Digits", individual_digits: false }, regex("(?=(\\d{3})+(?!\\d))"), bytes()]),
];

const variants = [
  onBytes("gpt2", bytes(true)),
  onBytes("gpt2, space in front", bytes(true, true)),
  onBytes("no pattern", bytes()),
  { ...onBytes("llama3", cuts(regex(llama3), bytes())), model: { ignore_merges: true } },
  onBytes("llama3, Removed and inverted", cuts(regex(llama3, "Removed", true), bytes())),
  onBytes("qwen2", cuts(regex(qwen2), bytes()), { normalizer: { type: "NFC" }, added_tokens: chatml }),
  onBytes("qwen, with marks", cuts(regex(marks), bytes()), { normalizer: { type: "NFC" } }),
  { ...onBytes("tekken", cuts(regex(tekken), bytes())), model: { ignore_merges: true } },
  onBytes("gpt4o, llama4", cuts(regex(gpt4o), bytes())),
  onBytes("deepseek-v3", cuts(regex("\\p{N}{1,3}"), regex(han), regex(deepseek3), bytes())),
  onBytes(
    "deepseek-coder",
    cuts(regex("[\\r\\n]"), regex("\\s?\\p{L}+"), regex("\\s?\\p{P}+"), regex("[一-龥ࠀ-一가-\ud7ff]+"), { type: "Digits", individual_digits: true }, bytes()),
  ),
  onBytes("smollm, starcoder", cuts({ type: "Digits", individual_digits: true }, bytes(true))),
  onBytes("digits in runs", cuts({ type: "Digits", individual_digits: false }, bytes(true))),
  onBytes("punctuation", cuts({ type: "Punctuation", behavior: "Contiguous" }, bytes())),
  onBytes("punctuation apart", cuts({ type: "Punctuation", behavior: "Isolated" }, bytes(true))),
  onBytes("Split MergedWithPrevious", cuts(regex("[\\s,.;]+", "MergedWithPrevious"), bytes())),
  onBytes("Split MergedWithNext", cuts(regex("[\\s,.;]", "MergedWithNext"), bytes())),
  onBytes("Split Contiguous", cuts(regex("[A-Z]", "Contiguous"), bytes())),
  onBytes("Split Removed", cuts(regex("\\d+", "Removed"), bytes())),
  onBytes("Split inverted", cuts(regex("\\w+", "MergedWithNext", true), bytes())),
  onBytes("Split at a text", cuts(string("a"), string("  ", "MergedWithPrevious"), bytes())),
  onBytes("Split at nothing", cuts(regex("(?=[A-Z])"), bytes())),
  onBytes("NFD", bytes(true), { normalizer: { type: "NFD" } }),
  onBytes("NFKC", bytes(true), { normalizer: { type: "NFKC" } }),
  onBytes("NFKD, Lowercase, Strip", bytes(true), { normalizer: norms({ type: "NFKD" }, { type: "Lowercase" }, { type: "Strip", strip_left: true, strip_right: true }) }),
  onBytes("Strip on the right", bytes(true), { normalizer: { type: "Strip", strip_left: false, strip_right: true } }),
  onBytes("Replace", bytes(true), {
    normalizer: norms({ type: "Replace", pattern: { Regex: "[ \\t]{2,}" }, content: " " }, { type: "Replace", pattern: { String: "``" }, content: "“" }, { type: "Prepend", prepend: "x" }),
  }),
  onBytes("flags of added tokens", cuts(regex(llama3), bytes()), { added_tokens: flags }),
  onBytes("flags behind NFC", cuts(regex(qwen2), bytes()), { added_tokens: flags, normalizer: { type: "NFC" } }),
  onBlanks("llama2", { normalizer: norms(prependBlank, replaceBlank), decoder: blankDecoder(strip) }),
  onBlanks("mistral, first", { pre_tokenizer: metaspace("first", false), decoder: blankDecoder(strip) }),
  onBlanks("metaspace always", { pre_tokenizer: metaspace("always", true), decoder: metaspaceDecoder("always", true) }),
  onBlanks("metaspace never", { pre_tokenizer: metaspace("never", false), decoder: metaspaceDecoder("never", false) }),
  onBlanks("metaspace, first, in words", { pre_tokenizer: metaspace("first", true), decoder: blankDecoder(strip) }),
  onBlanks("gemma", {
    normalizer: replaceBlank,
    pre_tokenizer: string(" ", "MergedWithPrevious"),
    decoder: blankDecoder(),
    added_tokens: afterBlanks(["\n\n"], ["\n\n\n"], ["<start_of_turn>", special], ["<table>"]),
  }),
  onBlanks("NFKC and blanks", { normalizer: norms({ type: "NFKC" }, prependBlank, replaceBlank), decoder: blankDecoder(strip) }),
  onBlanks("blanks in steps", { normalizer: norms(replaceBlank, { type: "NFC" }, prependBlank), decoder: blankDecoder(strip) }),
  onBlanks("unknown together", { normalizer: norms(prependBlank, replaceBlank), decoder: blankDecoder(strip) }, { byte_fallback: false }),
  onBlanks("unknown apart", { normalizer: norms(prependBlank, replaceBlank), decoder: blankDecoder(strip) }, { byte_fallback: false, fuse_unk: false }),
  ...named,
];

// ---- strings ----

const names = ["<|im_start|>", "<|im_end|>", "<tool_call>", "<mask>", "<|end|>", "<both>", "word", "</s>", "<s>", "<start_of_turn>", "<table>"];

const strings = [
  "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\n\n\n\n\n", "\r\n", "\r\n\r\n", "\t", "\t\t", " \n", "\n ", " \n \n ", "a", " a", "  a", "a ", "a  ", "a\n", "\na", "a b", "a  b", "a   b", "a\tb",
  ...corpus,
  ...corpus.map((t) => t.toUpperCase()),
  ...corpus.map((t) => [...t].reverse().join("")),
  "I'm you're he's it'll we'd they've don't", "I'M YOU'RE HE'S IT'LL WE'D THEY'VE DON'T", "'s't're've'm'll'd", "'S'T'RE'VE'M'LL'D", "''s '' 't' 're", "’s ’t", "a'sb'tc're", "'ſ 'ſa x'ſ",
  "0", "00", "000", "0000", "00000", "1234567890", "1 12 123 1234", "3.14159e-10", "1,234,567.89", "٠١٢٣٤٥", "²³¹ ½¼ Ⅷⅷ ①②", "a1b22c333d4444", "-1+2*3/4=5",
  "   leading", "trailing   ", "  both  ", "many     spaces     here", "tab\tand\nnewline\r\nmix \t \n \r", "\u00a0nbsp\u00a0", "\u2003em\u3000ideographic", "a\u200bb\u200cc\u200dd\ufeffe", "\u0085next\u2028line\u2029para", "x\u000by\u000cz\u001cw\u001d",
  "中", "中文", "中 文", "你好，世界！", "日本語テスト", "カタカナ ひらがな 漢字", "한국어 한글", "ㄱㄴㄷ 각", "𠀀𠀁𪛖", "龥龦一丁", "ࠀ가힣\ud7ff",
  "😀", "😀😀😀", "👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "👍🏽", "❤️", "a😀b", "😀 😀",
  "e\u0301", "é", "e\u0301\u0323", "e\u0323\u0301", "\u0301", "a\u0301\u0301\u0301", "\u0323\u0301\u0316\u0308\u0327", "o\u0308\u0323 o\u0323\u0308", "Å Å Å", "\u1100\u1161\u11a8 각", "ﬁ ﬀ ﷺ ㎏ ℡ ﾊﾟ", "ｆｕｌｌ ＷＩＤＴＨ", "İ I ı i ẞ ß Σς", "q\u0307\u0323 q\u0323\u0307", "नमस्ते दुनिया", "ไทย ภาษา", "עִבְרִית", "العَرَبِيَّة", "ʰʱ ª º ǅ ǈ ᾈ",
  "Hello", "hello world", "HelloWorld", "helloWorld", "HELLOworld", "XMLHttpRequest", "iPhone12Pro", "ABCdef GHIjkl", "aBcDeF", "ÀÉÎõü ÄÖÜ äöü",
  "_", "__init__", "a_b", "-_-", "...", "…", "!?", "?!.", "(a)", "[b]", "{c}", "<d>", "\"e\"", "“f”", "a/b/c", "//\n/", "a//\n", "#!/bin/sh\n", "$x + $y", "€5 £6 ¥7", "~!@#$%^&*()_+", "``code``", "x=y;z", "!abc ?def .ghi", "a.b.c", "@user #tag",
  "if (x) {\n    y();\n}\n", "def f(x):\n\treturn x\n", "    indented\n        more\n", "  \n  \n  ", "a \n\n b", "a\n\n\n\nb", "\n a\n  b",
  "▁", "▁▁", "a▁b", " ▁ ", "▁a ▁b", "<0x0A>", "<0xFF>", "<unk>", "\u0000x".slice(1), "\u0001\u0002\u007f", "\ufffd", "\u{10ffff}", "\ue000",
  ...names, ...names.map((n) => `a${n}b`), ...names.map((n) => ` ${n} `), ...names.map((n) => `${n}${n}`), ...names.map((n) => `x \t ${n} \n y`), ...names.map((n) => `é ${n}é`), "words", "sword", "word word", "word.word", "(word)", "word_", "word1 1word", "<|im_start", "im_start|>", "<<|im_end|>>", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "\u3000<both>\u3000", "  <mask>  <|end|>  ",
  "a".repeat(70), "ab".repeat(40), " ".repeat(33), "\n".repeat(17), "中".repeat(25), "😀".repeat(9), "1".repeat(31), "e\u0301".repeat(15), "aA".repeat(20), "-".repeat(40), "A".repeat(40), "A".repeat(20) + "a",
];

// ---- ask ----

async function ask(variant) {
  const model = { ...bases[variant.base], ...variant.model };
  const members = { added_tokens: [], normalizer: null, pre_tokenizer: null, decoder: null, ...variant.members };
  const t = Tokenizer.fromString(JSON.stringify({ version: "1.0", truncation: null, padding: null, post_processor: null, ...members, model }));
  const ids = [];
  const decoded = [];
  for (const text of strings) {
    const got = (await t.encode(text, null, { addSpecialTokens: false })).getIds();
    const back = await t.decode(got, true);
    ids.push(got);
    decoded.push(back === text ? null : back);
  }
  return { ...variant, ids, decoded };
}

const answers = [];
for (const variant of variants) answers.push(await ask(variant));
const rows = answers.map((a) => JSON.stringify(a)).join(",\n");
const text = `{"strings":${JSON.stringify(strings)},\n"bases":${JSON.stringify(bases)},\n"variants":[\n${rows}\n]}\n`;

const write = process.argv[2] === "--write";
const file = process.argv[write ? 3 : 2];
if (write) {
  writeFileSync(file, text);
  console.log(`${variants.length} vocabularies x ${strings.length} strings, ${text.length} bytes`);
} else {
  const same = readFileSync(file, "utf8") === text;
  console.log(same ? "[  PASSED  ] 1 test(s)." : "the package answers differently now\n[  FAILED  ] 1 test(s).");
  process.exitCode = same ? 0 : 1;
}
