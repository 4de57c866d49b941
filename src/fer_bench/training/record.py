"""`run.json` of a run that is trained here."""

import numpy as np

from fer_bench.runs.record import (
    DatasetRecord,
    ModelRecord,
    RunRecord,
    StageRecord,
    Status,
    now,
    versions,
)
from fer_bench.storage.files import write_json
from fer_bench.training.progress import Progress
from fer_bench.training.session import Session


def write_record(session: Session, status: Status) -> None:
    """Write `run.json`: what the run is, how far, and on which device. Only one worker writes."""
    if not session.device.writes:
        return
    config, device, progress = session.config, session.device, session.progress
    seconds = sum(_numbers(progress, "seconds"))
    speeds = _numbers(progress, "images_per_second")
    record = RunRecord(
        run_id=session.run.run_id,
        name=config.name,
        seed=config.seed,
        status=status,
        started=session.origin.started,
        ended=None if status == "running" else now(),
        device=device.name,
        precision=session.precision,
        kernels=device.kernels,
        xla=session.compiled,
        threads=device.threads,
        workers=device.workers,
        versions=versions("fer-bench", "tensorflow", "keras", "numpy"),
        dataset=DatasetRecord.of(session.manifest, config.dataset, session.contents),
        model=ModelRecord(
            backbone=config.model.backbone,
            weights=config.model.weights,
            weights_digest=session.origin.weights_digest,
            parameters=session.model.count_params(),
            trainable_parameters=[stage.trainable_parameters for stage in session.stages],
            first_trainable_layer=[stage.first_trainable_layer for stage in session.stages],
        ),
        stages=[
            StageRecord(name=stage.name, epochs=epochs, frozen_up_to=resolved.trunk)
            for stage, epochs, resolved in zip(
                config.stages, progress.stage_epochs, session.stages, strict=True
            )
        ],
        trunk_views=config.cache.views,
        selection=config.selection,
        tracking=list(config.tracking),
        best=progress.best,
        parent=progress.parent,
        state_kept=status == "finished" and session.keeps_state,
        images_per_second=round(float(np.mean(speeds)), 1) if speeds else None,
        seconds=round(seconds, 1),
    )
    write_json(session.run.run_json, record.to_json())


def _numbers(progress: Progress, column: str) -> list[float]:
    """The known values of a column of the history."""
    values = (row.get(column) for row in progress.history)
    return [value for value in values if isinstance(value, int | float)]
