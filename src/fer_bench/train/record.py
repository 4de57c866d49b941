"""What `run.json` says of a run."""

import importlib.metadata
import platform

import numpy as np

from fer_bench.rundir import write_json
from fer_bench.splits import split_digest
from fer_bench.train.session import Session, now


def write_record(session: Session, status: str) -> None:
    """Write `run.json`: what the run is, how far it is, and what it ran on. One worker does."""
    if not session.device.writes:
        return
    progress, manifest, model = session.progress, session.manifest, session.model
    seconds = sum(row["seconds"] for row in progress.history)
    speeds = [row["images_per_second"] for row in progress.history]
    document = {
        "run_id": session.run.run_id,
        "name": session.config.name,
        "seed": session.config.seed,
        "status": status,
        "started": session.started,
        "ended": None if status == "running" else now(),
        "device": session.device.name,
        "precision": session.precision,
        "xla": session.compiled,
        "threads": session.device.threads,
        "workers": session.device.workers,
        "versions": _versions(),
        "dataset": {
            "name": manifest.name,
            "release": manifest.release,
            "fingerprint": manifest.fingerprint,
            "split_digest": split_digest(manifest.samples),
            "classes": list(manifest.classes),
            "counts": manifest.counts(),
            "dropped": dict(manifest.dropped),
        },
        "model": {
            "backbone": session.config.model.backbone,
            "weights": session.config.model.weights,
            "weights_digest": session.weights_digest,
            "parameters": model.count_params(),
            "trainable_parameters": [stage.trainable_parameters for stage in session.stages],
            "first_trainable_layer": [stage.first_trainable_layer for stage in session.stages],
        },
        "stages": [
            {"name": stage.name, "epochs": epochs, "frozen_up_to": resolved.trunk}
            for stage, epochs, resolved in zip(
                session.config.stages, progress.stage_epochs, session.stages, strict=True
            )
        ],
        "trunk_views": session.config.cache.views,
        "selection": session.config.selection,
        "tracking": list(session.config.tracking),
        "best": progress.best,
        "parent": progress.parent,
        "state_kept": status == "finished" and session.keeps_state,
        "images_per_second": round(float(np.mean(speeds)), 1) if speeds else None,
        "seconds": round(seconds, 1),
    }
    write_json(session.run.run_json, document)


def _versions() -> dict[str, str]:
    packages = ("fer-bench", "tensorflow", "keras", "numpy")
    return {"python": platform.python_version()} | {
        package: importlib.metadata.version(package) for package in packages
    }
