"""litellm's ``batch_completion``: threads, a list in, a list out."""

from __future__ import annotations

import litellm  # type: ignore[import-not-found]

from bench.common import MODEL
from bench.peers.tools.plan import KEY, Plan, told


def main(plan: Plan) -> None:
    """Ask for every completion in one call."""
    keys, bodies = zip(*plan.bodies(), strict=True)
    answers = litellm.batch_completion(
        model=f"openai/{MODEL}",
        messages=[body["messages"] for body in bodies],
        max_tokens=bodies[0]["max_tokens"],
        max_workers=plan.concurrency,
        api_base=plan.openai_url,
        api_key=KEY,
    )
    results = {}
    for key, answer in zip(keys, answers, strict=True):
        if isinstance(answer, Exception):
            plan.give_up(key, answer)
        else:
            results[key] = answer.model_dump()
    plan.save(results)


if __name__ == "__main__":
    main(told())
