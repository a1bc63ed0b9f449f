"""Hold configurations to the schema of the Oumi that is installed; tell of each what is wrong with it, as JSON.

    schema.py KIND=PATH…

``KIND`` is train, evaluate, infer or job; '' as an answer says that nothing is wrong.
"""

import json
import sys

from oumi.core.configs import EvaluationConfig, InferenceConfig, JobConfig, TrainingConfig

KINDS = {"train": TrainingConfig, "evaluate": EvaluationConfig, "infer": InferenceConfig, "job": JobConfig}


def wrong(kind: str, path: str) -> str:
    """What Oumi says of a file as it reads and checks it."""
    try:
        config = KINDS[kind].from_yaml(path)
        config.finalize_and_validate()
    except Exception as error:  # noqa: BLE001  it has many kinds, and any is an answer
        return f"{type(error).__name__}: {error}".strip()
    return ""


if __name__ == "__main__":
    named = (argument.partition("=") for argument in sys.argv[1:])
    print(json.dumps({path: wrong(kind, path) for kind, _, path in named}))
