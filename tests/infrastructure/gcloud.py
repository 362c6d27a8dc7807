#!/usr/bin/env python3
"""A `gcloud` that keeps one Cloud Run service in a file and writes down what it was asked; for tests of scripts/."""

import json
import os
import sys
from pathlib import Path

STATE = Path(os.environ["GCLOUD_STATE"])


def option(name: str) -> str | None:
    return next((each.partition("=")[2] for each in sys.argv if each.startswith(f"--{name}=")), None)


def main() -> int:
    state = json.loads(STATE.read_text())
    words = [each for each in sys.argv[1:] if not each.startswith("-")]
    state["asked"].append(" ".join(each for each in sys.argv[1:] if not each.startswith(("--project", "--region"))))
    told = answer(state, words)
    STATE.write_text(json.dumps(state))
    if any(state["asked"][-1].startswith(each) for each in state["refuses"]):
        sys.stderr.write("ERROR: (gcloud) refused\n")
        return 1
    sys.stdout.write(told)
    return 0


def answer(state: dict, words: list[str]) -> str:
    traffic, tags, images = state["traffic"], state["tags"], state["images"]
    match words:
        case ["run", "services", "describe", _]:
            return json.dumps({"status": {"traffic": describe(traffic, tags)}})
        case ["run", "deploy", _]:
            revision = f"sms-{len(images) + 1}"
            images[revision] = option("image")
            tags[option("tag")] = revision
        case ["run", "services", "update-traffic", _]:
            if wanted := option("to-revisions"):
                traffic.clear()
                traffic.update({each.split("=")[0]: int(each.split("=")[1]) for each in wanted.split(",")})
                state["shares"].append(dict(traffic))
            if wanted := option("update-tags"):
                tags[wanted.split("=")[0]] = wanted.split("=")[1]
        case ["run", "revisions", "describe", revision]:
            collector = {"name": "metrics", "image": "collector.example.com/collector:1"}
            return json.dumps({"spec": {"containers": [collector, {"name": "service", "image": images[revision]}]}})
        case ["auth", "print-access-token"]:
            return "a-token\n"
    return ""


def describe(traffic: dict, tags: dict) -> list[dict]:
    targets = [{"revisionName": name, "percent": percent} for name, percent in traffic.items()]
    return targets + [
        {"revisionName": name, "tag": tag, "url": f"https://{tag}---sms.example.com"} for tag, name in tags.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
