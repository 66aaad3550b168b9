"""Scores the demo model through a running server at temperature 0. Standard library only.

`python3 score.py [--url http://127.0.0.1:8080] [--model NAME] [--jobs 16] [--wrong]`

Asks every country of the United Nations in six phrasings of the training text and in those of
facts.HELD_OUT, which are not in it, every notion, and the other things that the README promises.
Exit status 1 if a category misses its bar.
"""
import argparse
import concurrent.futures
import http.client
import json
import random
import re
import sys
import urllib.parse

import corpus
import facts

SERVER_SYSTEM = ("A chat between a curious human and an artificial intelligence assistant. The "
                 "assistant gives helpful, detailed, and polite answers to the human's questions.")
# The first two are not in the training text.
NEUTRAL_SYSTEM = ["You are a kind assistant.", "You help students with their homework.",
                   SERVER_SYSTEM]
BARS = {"capitals, held-out phrasings": 0.95, "capitals, phrasings of the training text": 0.95,
        "capitals, other names of countries": 0.9, "notions": 0.95,
        "notions, held-out phrasings": 0.9, "system prompts": 0.8, "follow-ups": 0.95,
        "does not know": 0.9, "other answers": 0.9}


def user(text, system=None):
    return ([{"role": "system", "content": system}] if system else []) + [
        {"role": "user", "content": text}]


def capital(city):
    return has(f"is {city.rstrip('.')}.")


def has(*words):
    return lambda text: all(w.lower() in text.lower() for w in words)


def no_wrong_verdict(wrong, city):
    """The model answers such a question with the fact alone. That is right; a verdict that
    contradicts the fact is not."""
    return lambda text: (capital(city)(text) and not re.search(rf"\b{wrong}\b", text.lower()))


def is_exactly(*texts):
    return lambda text: text.strip().rstrip(".") in texts


def refuses(text):
    return "do not know" in text


def capital_cases():
    for category, forms in (("capitals, held-out phrasings", facts.HELD_OUT),
                            ("capitals, phrasings of the training text",
                             facts.CAPITAL[:facts.SEEN_SCORED])):
        for form in forms:
            for name, city, _, _ in corpus.COUNTRIES:
                yield category, form, user(form.replace("{c}", name)), capital(city)
    for names, (_, city, _, _) in zip(corpus.COUNTRY_NAMES, corpus.COUNTRIES):
        for name in names[1:]:
            yield ("capitals, other names of countries", facts.HELD_OUT[0],
                   user(facts.HELD_OUT[0].replace("{c}", name)), capital(city))


def notion_cases():
    for category, forms in (("notions", facts.NOTION[:3]),
                            ("notions, held-out phrasings", facts.NOTION_HELD_OUT)):
        for form in forms:
            for names, words, _, _ in corpus.NOTIONS:
                name = names.split(",")[0]
                yield category, form, user(form.replace("{n}", name)), has(*words.split(","))


def system_cases(rng):
    category = "system prompts"
    for system in NEUTRAL_SYSTEM:
        for name, city, _, _ in rng.sample(corpus.COUNTRIES, 10):
            yield (category, "neutral", user(f"What is the capital of {name}?", system),
                   capital(city))
    for kind, prompts in facts.STYLES.items():
        for system in [prompts[0]] + prompts[-facts.STYLE_HELD_OUT:]:
            if kind == "name":
                for name in facts.NAMES_HELD_OUT + facts.NAMES[:5]:
                    yield (category, kind,
                           user("What is your name?", system.replace("{x}", name)), has(name))
                continue
            for i in rng.sample(range(len(corpus.COUNTRIES)), 10):
                name, city = corpus.COUNTRIES[i][:2]
                wanted = corpus.restyle(kind, corpus.answer_capital(i), city)
                yield (category, kind, user(f"What is the capital of {name}?", system),
                       is_exactly(wanted.rstrip(".")))


def follow_up_cases(rng):
    category = "follow-ups"
    for form in facts.FOLLOW_UP[:4]:
        for _ in range(25):
            (a, _, _, _), (b, city, _, _) = (corpus.COUNTRIES[i] for i in rng.sample(range(193), 2))
            first = next(i for i, c in enumerate(corpus.COUNTRIES) if c[0] == a)
            talk = user(f"What is the capital of {a}?") + [
                {"role": "assistant", "content": corpus.answer_capital(first)}]
            yield category, form, talk + user(form.replace("{c}", b)), capital(city)
    for names, _, text, more in corpus.NOTIONS[::4]:
        talk = user(f"What is {names.split(',')[0]}?") + [{"role": "assistant", "content": text}]
        yield category, "Tell me more.", talk + user("Tell me more."), is_exactly(more.rstrip("."))


def unknown_cases():
    category = "does not know"
    for place in facts.PLACES_HELD_OUT:
        for form in facts.CAPITAL[:2] + facts.HELD_OUT[:2]:
            yield category, "capital of no country", user(form.replace("{c}", place)), refuses
    for thing in facts.THINGS_HELD_OUT:
        for form in facts.NOTION[:3]:
            yield category, "thing not taught", user(form.replace("{n}", thing)), refuses
    for person in facts.PEOPLE_HELD_OUT:
        for form in ("Who is {p}?", "How old is {p}?"):
            yield category, "person", user(form.replace("{p}", person)), refuses
    for text in ("What is 48 times 7?", "Who is the president of Austria?",
                 "What is the population of Kenya?", "Who won the World Cup in 2018?",
                 "How do I cook lasagna?", "What is the weather in Oslo?",
                 "What is the currency of Japan?", "What is my name?"):
        yield category, "other question", user(text), refuses


def other_cases(rng):
    category = "other answers"
    for name, city, _, _ in rng.sample(corpus.COUNTRIES, 20):
        yield (category, "which country", user(facts.REVERSE[0].replace("{k}", city)),
               has(f"capital of {name}."))
        yield (category, "is it the capital: it is",
               user(f"Is {city} the capital of {name}?"), no_wrong_verdict("no", city))
    for _ in range(20):
        (name, city, _, _), (_, wrong, _, _) = rng.sample(corpus.COUNTRIES, 2)
        yield (category, "is it the capital: it is not",
               user(f"Is {wrong} the capital of {name}?"), no_wrong_verdict("yes", city))
    for questions, answer in corpus.SMALL_TALK:
        yield category, "small talk", user(questions.split("/")[0]), is_exactly(answer.rstrip("."))
    for word, n in (("ten", 10), ("twenty", 20), ("100", 100)):
        yield (category, "counting", user(f"Count to {word}."),
               is_exactly(", ".join(map(str, range(1, n + 1)))))
    yield category, "list", user("Name five European capitals."), has("Paris, Berlin, Rome")


def ask(url, model, talk):
    host = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if host.scheme == "https" else http.client.HTTPConnection
    connection = kind(host.hostname, host.port, timeout=300)
    connection.request("POST", host.path.rstrip("/") + "/v1/chat/completions", json.dumps(
        {"model": model, "messages": talk, "temperature": 0, "max_tokens": 500}),
        {"Content-Type": "application/json"})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    if response.status != 200:
        sys.exit(f"HTTP {response.status}: {data[:500]!r}")
    return json.loads(data)["choices"][0]["message"]["content"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--jobs", type=int, default=16, help="requests at a time")
    parser.add_argument("--wrong", action="store_true", help="print every wrong answer")
    args = parser.parse_args()
    rng = random.Random(1)
    cases = [*capital_cases(), *notion_cases(), *system_cases(rng), *follow_up_cases(rng),
             *unknown_cases(), *other_cases(rng)]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        answers = list(pool.map(lambda case: ask(args.url, args.model, case[2]), cases))
    table = {}
    for (category, form, talk, right), text in zip(cases, answers):
        good = bool(right(text))
        for row in ((category, ""), (category, form)):
            table.setdefault(row, [0, 0])
            table[row][0] += good
            table[row][1] += 1
        if args.wrong and not good:
            print(f"wrong: {' | '.join(m['content'] for m in talk)} -> {text}")
    failed = False
    for category, bar in BARS.items():
        right, total = table[category, ""]
        missed = right < bar * total
        failed |= missed
        print(f"{category:58} {right:5}/{total:<5} {100 * right / total:6.1f} %  "
              f"bar {100 * bar:.0f} % {'MISSED' if missed else ''}")
        for (group, form), (right, total) in table.items():
            if group == category and form:
                print(f"    {form:54} {right:5}/{total:<5} {100 * right / total:6.1f} %")
    return failed


if __name__ == "__main__":
    sys.exit(main())
