"""Other systems with the same compiled models, where they are installed; else a line that says that they are not."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import time
from collections.abc import Iterator
from typing import Any

from load import measure
from rows import NAMES, questions
from yardsticks import compiled, in_process

from p2pml.ensemble.models import Model


def lines(trained: list[Model], rows: list[int], seconds: float) -> Iterator[str]:
    """A line of the table for each system, rows and concurrency."""
    for name, module, run in (("Ray Serve", "ray.serve", ray_serve), ("MLflow", "mlflow", mlflow)):
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            yield f"{name} is not installed and was left out: pip install '{module.partition('.')[0]}'"
        else:
            yield from run(trained, rows, seconds)


def ray_serve(trained: list[Model], rows: list[int], seconds: float) -> Iterator[str]:
    """A router and three deployments of one replica each, called through handles."""
    ray: Any = importlib.import_module("ray")
    serve: Any = importlib.import_module("ray.serve")
    from p2pml.ensemble.combine import combine
    from p2pml.ensemble.compiled import CompiledModel
    from p2pml.ensemble.portable import Portable

    class Voter:
        def __init__(self, packed: bytes) -> None:
            self._model = CompiledModel(Portable.read(packed))

        def __call__(self, columns: dict[str, list[object]]) -> Any:
            return self._model.vote(columns)

    class Router:
        def __init__(self, voters: list[Any]) -> None:
            self._voters = voters

        async def __call__(self, columns: dict[str, list[object]]) -> Any:
            votes = await asyncio.gather(*(voter.remote(columns) for voter in self._voters))
            return combine([(str(at), vote, 1) for at, vote in enumerate(votes)]).predictions

    ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    packed = [Portable.of(model).packed() for model in trained]
    voter, router = serve.deployment(Voter), serve.deployment(Router)
    handle = serve.run(router.bind([voter.bind(each) for each in packed]))
    try:
        for count in rows:
            data = questions(count)
            columns = {name: list(cells) for name, cells in zip(NAMES, zip(*data, strict=True), strict=True)}

            async def ask(asked: dict[str, list[object]] = columns) -> object:
                return await handle.remote(asked)

            for concurrency in (1, 16):
                measured = asyncio.run(measure(ask, concurrency, seconds, 3, time.process_time))
                yield f"| {count:,} | Ray Serve, onnxruntime (the caller's cpu) | {concurrency} | {measured} | | |"
    finally:
        serve.shutdown()
        ray.shutdown()


def mlflow(trained: list[Model], rows: list[int], seconds: float) -> Iterator[str]:
    """The three models behind one pyfunc, called in this process: what its server adds comes on top."""
    pyfunc: Any = importlib.import_module("mlflow.pyfunc")
    pd: Any = importlib.import_module("pandas")
    voters = compiled(trained)

    class Mean(pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: object, model_input: Any, params: object = None) -> Any:
            del context, params
            data = model_input.astype(object).where(model_input.notna(), None).values.tolist()
            return asyncio.run(in_process(voters, data)())  # type: ignore[arg-type]

    model = Mean()
    for count in rows:
        frame = pd.DataFrame(questions(count), columns=NAMES)

        async def ask(asked: Any = frame) -> object:
            return await asyncio.to_thread(model.predict, None, asked)

        measured = asyncio.run(measure(ask, 1, seconds, 3, time.process_time))
        yield f"| {count:,} | MLflow's pyfunc, onnxruntime, no server | 1 | {measured} | | |"
