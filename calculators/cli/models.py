"""`pointedge models`: the models that come with the package."""

from __future__ import annotations

import textwrap
from typing import Any

COLUMNS = (
    "name",
    "architecture",
    "species",
    "cutoff / Å",
    "parameters",
    "trained on",
    "force RMSE / meV/Å, validation",
    "test",
    "size / MB",
)


def models() -> None:
    """List the packaged models, with what they know and how large their force error is.

    Validation frames chose the weights; test frames did not.
    """
    from ..ensemble_files import find_ensemble, packaged_ensembles
    from ..models import model_card, packaged_models
    from .options import print_table

    paths = packaged_models()
    if not paths:
        raise ValueError("no model is packaged with this version; train one, or give a file.")
    print_table(COLUMNS, [_row(model_card(path)) for path in paths.values()])
    for name in packaged_ensembles():
        if ensemble := find_ensemble(name):
            print(f"{name}: the ensemble of {', '.join(ensemble.members)}")


def training_files(information: dict[str, Any]) -> str:
    """Name the data that a model was trained on, or "-"."""
    if "trained_on" in information:
        return str(information["trained_on"])
    data = information.get("training", {}).get("data", {})
    return ", ".join(data.get("train", {}).get("files", [])) or "-"


def _row(card: dict[str, Any]) -> list[str]:
    errors = [card["information"].get(f"{kind}_rmse") or {} for kind in ("validation", "test")]
    return [
        card["name"],
        card["architecture"],
        " ".join(card["species"]),
        f"{card['cutoff']:g}",
        f"{card['parameters']:,}",
        textwrap.shorten(training_files(card["information"]), 44, placeholder=" ..."),
        *(f"{found['forces']:.1f}" if "forces" in found else "-" for found in errors),
        f"{card['bytes'] / 1e6:.2f}",
    ]
