"""Generates the training text: seeded conversations about what facts.py lists.

`python3 corpus.py [COUNT]` prints some of them.
"""
import random
import re
import sys

import facts

COUNTRIES = [line.split("|") for line in facts.COUNTRIES.strip().splitlines()]
NOTIONS, SMALL_TALK = ([" ".join(record.split()).split("|") for record in text.split("\n\n")]
                       for text in (facts.NOTIONS, facts.SMALL_TALK))
COUNTRY_NAMES = [[c[0]] + [a for a in c[3].split(",") if a] for c in COUNTRIES]


def listed(text):
    return [item.strip() for item in text.replace("\n", " ").split(",") if item.strip()]


PLACES, THINGS = listed(facts.PLACES), listed(facts.THINGS)
TAUGHT = {name.lower() for names in COUNTRY_NAMES for name in names}
NOTION_WORDS = ["quantum", "digital", "virtual", "neural", "parallel", "magnetic", "binary",
                "nuclear", "atomic", "memory"]


# The mix of the first chunks of the training text, and that of the later ones, which asks more
# often what is learned slowest. Here "name" is the share of countries called by their first name,
# "styled" that of conversations with a system prompt that changes the answers, and "who" that of
# turns which ask the name of a model that was given none.
EARLY = {"name": 0.7, "lower": 0.08, "styled": 0.27, "who": 0, "reverse": 5,
         "styles": list(facts.STYLES)}
LATER = {"name": 0.5, "lower": 0.14, "styled": 0.40, "who": 0.04, "reverse": 9, "styles": [
    *facts.STYLES, "capital letters", "capital letters", "name", "name", "one word"]}
# For the short second run: more of places that are no country ("fake") and of yes or no, where
# the verdict now comes after the fact, as the model can then compare what it has written.
REFINE = {**LATER, "fake": 0.4, "yes_no": 30, "fact first": True, "styles": [
    *facts.STYLES, "capital letters", "name", "name", "name"]}


class Draw(random.Random):
    """The random numbers of one part of the text, and its mix."""

    def __init__(self, seed, mix):
        super().__init__(seed)
        self.mix = mix


def flat(text):
    return re.sub(r"[^a-z ]", "", text.lower())


HELD_OUT = [re.compile(".+".join(re.escape(flat(part)) for part in phrase.split(mark)))
            for phrases, mark in ((facts.HELD_OUT, "{c}"), (facts.NOTION_HELD_OUT, "{n}"))
            for phrase in phrases]
NEVER = [flat(e) for e in facts.PLACES_HELD_OUT + facts.THINGS_HELD_OUT + facts.PEOPLE_HELD_OUT
         + facts.NAMES_HELD_OUT]
NEVER = re.compile(r"\b(" + "|".join(NEVER) + r")\b")


def invented(rng):
    """A made-up word, so that refusals do not hang on the words of a list."""
    word = "".join(rng.choice("b c d f g h j k l m n p r s t v w z br dr fl gr kl pr sh st th tr"
                              .split())
                   + rng.choice("a e i o u a e i o ai ea ou".split())
                   + rng.choice(["", "", "", "l", "n", "r", "s", "m", "k", "x"])
                   for _ in range(rng.choice([1, 2, 2, 3])))
    return word


def fake_place(rng):
    if rng.random() < 0.35:
        return rng.choice(PLACES)
    name = invented(rng) + rng.choice(["ia", "land", "stan", "a", "o", "", "", "or", "burg", "ia"])
    return fake_place(rng) if name in TAUGHT else name.capitalize()


def fake_thing(rng):
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(THINGS)
    word = invented(rng) if kind < 0.85 else rng.choice(THINGS).split()[-1]
    if kind > 0.75:
        word = rng.choice(NOTION_WORDS) + " " + word
    return rng.choice(["a ", "a ", "", "the "]) + word


def person(rng):
    if rng.random() < 0.4:
        return invented(rng).capitalize() + " " + invented(rng).capitalize()
    return rng.choice(facts.PEOPLE_FIRST) + " " + rng.choice(facts.PEOPLE_LAST)


def first_name(rng):
    return invented(rng).capitalize() if rng.random() < 0.6 else rng.choice(facts.NAMES)


def start(text):
    return text[0].upper() + text[1:]


def vary(rng, text):
    """The small differences of typed questions."""
    kind = rng.random()
    if kind < 0.08:
        text = rng.choice(facts.PREFIXES) + text
    elif kind < 0.08 + rng.mix["lower"]:
        text = text.lower()
    elif kind < 0.12 + rng.mix["lower"] and text[-1] in "?.":
        text = text[:-1] + rng.choice([" please", " please?", ", please.", ", please?"])
    if rng.random() < 0.15:
        text = text.rstrip("?.")
    elif rng.random() < 0.04:
        text += rng.choice(["?", "!", " "])
    return text


# A topic returns (question, answer, the answer in one word or None, its kind of follow-up).

def answer_capital(i):
    return f"The capital of {COUNTRIES[i][0]} is {COUNTRIES[i][1].rstrip('.')}."


def country(rng):
    i = rng.randrange(len(COUNTRIES))
    names = COUNTRY_NAMES[i]
    return i, names[0] if rng.random() < rng.mix["name"] else rng.choice(names)


def capital(rng, templates=facts.CAPITAL):
    # The six plain phrasings come more often, as users ask that way.
    form = rng.choice(templates if rng.random() < 0.75 else templates[:facts.SEEN_SCORED])
    if rng.random() < rng.mix.get("fake", 0.16):
        return form.replace("{c}", fake_place(rng)), facts.SORRY, "Unknown", "capital"
    i, name = country(rng)
    return form.replace("{c}", name), answer_capital(i), COUNTRIES[i][1], "capital"


def capital_again(rng):
    return capital(rng, facts.FOLLOW_UP)


def reverse(rng):
    i, _ = country(rng)
    name, city = COUNTRIES[i][:2]
    return (rng.choice(facts.REVERSE).replace("{k}", city), f"{city} is the capital of {name}.",
            name, "reverse")


def yes_no(rng):
    i, name = country(rng)
    city, right = COUNTRIES[i][1], "Yes"
    if rng.random() < 0.5:
        other = rng.randrange(len(COUNTRIES))
        if other != i:
            city, right = COUNTRIES[other][1], "No"
    question = rng.choice(facts.YES_NO).replace("{k}", city).replace("{c}", name)
    answer = f"{right}. {answer_capital(i)}"
    if rng.mix.get("fact first"):
        answer = f"{answer_capital(i)[:-1]}, so the answer is {right.lower()}."
    return start(question), answer, right, "capital"


def continent(rng):
    i, name = country(rng)
    return (rng.choice(facts.CONTINENT).replace("{c}", name),
            f"{start(COUNTRIES[i][0])} is in {COUNTRIES[i][2]}.", COUNTRIES[i][2], None)


def notion(rng):
    form = rng.choice(facts.NOTION if rng.random() < 0.8 else facts.NOTION[:4])
    if rng.random() < 0.15:
        return form.replace("{n}", fake_thing(rng)), facts.SORRY, "Unknown", None
    names, _, text, more = rng.choice(NOTIONS)
    names = names.split(",")
    name = names[0] if rng.random() < 0.6 else rng.choice(names)
    if rng.random() < 0.2:
        name = re.sub("^(an?|the) ", "", name)
    return form.replace("{n}", name), text, None, ("more", more)


def two_notions(rng):
    """The texts of both, one after the other: the longer answers."""
    one, two = rng.sample(NOTIONS, 2)
    names = [n.split(",")[0] for n in (one[0], two[0])]
    form = rng.choice(facts.NOTION_PAIR)
    return form.replace("{n}", names[0]).replace("{m}", names[1]), f"{one[2]} {two[2]}", None, None


def capitals(rng):
    chosen = [country(rng) for _ in range(rng.choice([2, 2, 3, 4]))]
    names = ", ".join(name for _, name in chosen[:-1]) + " and " + chosen[-1][1]
    return (rng.choice(facts.CAPITALS).replace("{c}", names),
            " ".join(answer_capital(i) for i, _ in chosen), None, None)


def unknown(rng):
    form = rng.choice(facts.UNTAUGHT)
    known = COUNTRIES[rng.randrange(len(COUNTRIES))]
    for mark, value in (
            ("{c}", known[0] if rng.random() < 0.8 else fake_place(rng)), ("{k}", known[1]),
            ("{p}", person(rng)), ("{t}", fake_thing(rng)), ("{y}", str(rng.randint(1900, 2030))),
            ("{i}", str(rng.randint(2, 999))), ("{j}", str(rng.randint(2, 99))),
            ("{s}", rng.choice(facts.SPORTS)), ("{e}", rng.choice(facts.EVENTS)),
            ("{w}", rng.choice(facts.FAVORITES))):
        form = form.replace(mark, value)
    return form, facts.SORRY, "Unknown", None


def small_talk(rng):
    questions, text = rng.choice(SMALL_TALK)
    return rng.choice(questions.split("/")), text, None, None


def count(rng):
    n = rng.choice([3, 5, 10, 10, 10, 15, 20, 20, 20, 30, 50, 100, 100, rng.randint(2, 100)])
    word = facts.COUNT_WORDS.get(n) if rng.random() < 0.5 else None
    return (rng.choice(facts.COUNT).replace("{n}", word or str(n)),
            ", ".join(map(str, range(1, n + 1))) + ".", None, None)


def several(rng):
    place, cities = rng.choice(list(facts.LISTED.items()))
    n, word = rng.choice([(3, "three"), (5, "five"), (5, "five"), (10, "ten")])
    cities = cities.split(",")[:n]
    question = (rng.choice(facts.LIST).replace("{n}", word if rng.random() < 0.7 else str(n))
                .replace("{k}", place).replace("{a}", facts.ADJECTIVE[place]))
    return (question, f"{start(word)} capitals of {place} are {', '.join(cities[:-1])} and "
            f"{cities[-1]}.", None, None)


LONG_TEXT = " ".join(next(text for names, _, text, _ in NOTIONS if names.split(",")[0] == name)
                     for name in facts.LONG_NOTIONS)


def long_text(rng):
    return rng.choice(facts.LONG), LONG_TEXT, None, None


TOPICS = {capital: 36, notion: 28, unknown: 12, small_talk: 9, reverse: 0, yes_no: 0, continent: 3,
          capitals: 1.5, two_notions: 1.5, several: 1.5, count: 1.5, long_text: 0.3}
# The mix gives the weights of `reverse` and `yes_no`. One-word and capital-letter answers are
# taught for the second group only.
SHORT_TOPICS = {capital: 70, unknown: 8, reverse: 8, yes_no: 10, continent: 4}


def follow_up(rng, kind):
    """A question that only makes sense after the last answer."""
    if kind == "capital":
        return capital_again(rng)
    if kind == "reverse":
        i, _ = country(rng)
        name, city = COUNTRIES[i][:2]
        return (rng.choice(["And {k}?", "What about {k}?", "And of {k}?"]).replace("{k}", city),
                f"{city} is the capital of {name}.", name, "reverse")
    return rng.choice(facts.MORE), kind[1], None, None


def restyle(kind, text, short):
    if kind == "one word":
        return short
    if kind == "capital letters":
        return text.upper()
    return {"pirate": f"Arr! {text}", "over": f"{text} Over.", "sure": f"Sure! {text}"}.get(
        kind, text)


def neutral(rng):
    if rng.random() < 0.5:
        return rng.choice(facts.NEUTRAL)
    text = f"You are {rng.choice(facts.ROLE_QUALITY)} {rng.choice(facts.ROLES)}"
    text += rng.choice(["", "", f" in {rng.choice(COUNTRIES)[1]}", f" for {rng.choice(PLACES)}"])
    return text + ". " + rng.choice(facts.NEUTRAL_END) if rng.random() < 0.5 else text + "."


def conversation(rng):
    """(system prompt or None, [(question, answer), ...])"""
    system = kind = name = None
    draw = rng.random()
    if draw < 0.25:
        system = neutral(rng)
    elif draw < 0.25 + rng.mix["styled"]:
        kind = rng.choice(rng.mix["styles"])
        system = rng.choice(facts.STYLES[kind][:-facts.STYLE_HELD_OUT])
        if kind == "name":
            name = first_name(rng)
            system = system.replace("{x}", name)
        if rng.random() < 0.3:
            parts = [rng.choice(facts.NEUTRAL[:5]).rstrip(".") + ".", system]
            system = " ".join(parts if rng.random() < 0.7 else parts[::-1])
    topics = {**TOPICS, reverse: rng.mix["reverse"], yes_no: rng.mix.get("yes_no", 5)}
    if kind in ("one word", "capital letters"):
        topics = SHORT_TOPICS
    turns, last, user_name = [], None, None
    for _ in range(rng.choice([1, 1, 1, 1, 2, 2, 3, 4, rng.randint(5, 14)])):
        style = kind
        draw = rng.random()
        if last and draw < 0.5 and not (last[0] == "more" and style in SHORT_TOPICS):
            question, text, short, last = follow_up(rng, last)
        elif name and draw < (0.9 if not turns else 0.6):
            question, short, last = rng.choice(facts.ASK_NAME), None, None
            text = f"My name is {name}. I am a small demo model."
        elif not name and topics is not SHORT_TOPICS and 0.5 < draw < 0.5 + rng.mix["who"]:
            question, text, short, last = rng.choice(facts.ASK_NAME), facts.ABOUT, None, None
        elif style is None and draw > 0.97:
            user_name = first_name(rng)
            question = rng.choice(["My name is {x}.", "I am {x}.", "Hi, I am {x}.",
                                   "Hello, my name is {x}."]).replace("{x}", user_name)
            text, last = f"Hello, {user_name}! How can I help you?", None
        elif style is None and draw > (0.6 if user_name else 0.965):
            question = rng.choice(["What is my name?", "Do you know my name?", "Who am I?",
                                   "What's my name?"])
            text, last = f"Your name is {user_name}." if user_name else facts.SORRY, None
        else:
            topic = rng.choices(list(topics), topics.values())[0]
            question, text, short, last = topic(rng)
            if style is None and topic in SHORT_TOPICS and draw < 0.06:
                # The same wishes also work in the question itself.
                style = rng.choice(["one word", "capital letters"])
                wish = rng.choice(facts.STYLES[style][:-facts.STYLE_HELD_OUT])
                question = f"{wish} {question}" if draw < 0.03 else f"{question} {wish}"
            elif not question.endswith(" "):
                question = vary(rng, question)
        if style:
            text = restyle(style, text, short)
        turns.append((start(question) if rng.random() < 0.7 else question, text))
    return system, turns


def plain(rng):
    """Text without roles, for the completions route."""
    parts = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        i = rng.randrange(len(COUNTRIES))
        name, city, place, _ = COUNTRIES[i]
        parts.append(rng.choice([answer_capital(i), answer_capital(i),
                                 f"{start(name)} is in {place}.",
                                 f"{city} is the capital of {name}.", rng.choice(NOTIONS)[2]]))
    return " ".join(parts)


def samples(seed, number, mix=EARLY):
    """Yields (system, turns), or (None, text) for plain text. Nothing that the score asks as
    unseen is in it: invented words may hit a held-out name by chance and are then left out, and
    a held-out phrasing would be a mistake in facts.py."""
    rng = Draw(seed, mix)
    while number:
        if rng.random() < 0.06:
            system, turns = None, plain(rng)
            text = ""
        else:
            system, turns = conversation(rng)
            text = flat(" | ".join([system or ""] + [question for question, _ in turns]))
            assert not any(form.search(flat(q)) for q, _ in turns for form in HELD_OUT), turns
        if not NEVER.search(text):
            number -= 1
            yield system, turns


def messages(system, turns):
    head = [("system", system)] if system else []
    return head + [m for q, a in turns for m in (("user", q), ("assistant", a))]


if __name__ == "__main__":
    for system, turns in samples(1, int(sys.argv[1]) if len(sys.argv) > 1 else 20):
        print("-" * 40)
        for role, text in [("text", turns)] if isinstance(turns, str) else messages(system, turns):
            print(f"{role}: {text}")
