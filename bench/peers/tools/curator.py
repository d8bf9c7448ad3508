"""bespokelabs-curator with its OpenAI backend; its cache folder is what a second run goes on from."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# tiktoken would load its tables from the network; litellm, which curator brings, carries them.
if (litellm := find_spec("litellm")) is not None and litellm.origin is not None:
    tables = Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(tables)

from bespokelabs import curator  # type: ignore[import-not-found]
from datasets import Dataset  # type: ignore[import-not-found]

from bench.common import MODEL
from bench.peers.tools.plan import KEY, Plan, told


class Asks(curator.LLM):  # type: ignore[misc]
    """One prompt a row."""

    def prompt(self, row: dict[str, Any]) -> str:
        """Return the row's prompt."""
        return str(row["prompt"])

    def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
        """Keep the key and the answer."""
        return {"key": row["key"], "answer": response}


def main(plan: Plan) -> None:
    """Ask for what the cache does not have."""
    rows = [{"key": key, "prompt": body["messages"][0]["content"]} for key, body in plan.bodies()]
    llm = Asks(
        model_name=MODEL,
        backend="openai",
        generation_params={"max_tokens": 64},
        backend_params={
            "base_url": plan.openai_url,
            "api_key": KEY,
            "max_concurrent_requests": plan.concurrency,
            "max_requests_per_minute": plan.rpm_number,
            "max_tokens_per_minute": 1_000_000_000,
        },
    )
    llm(Dataset.from_list(rows), working_dir=str(plan.folder / "cache"))


if __name__ == "__main__":
    main(told())
