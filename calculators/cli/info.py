"""`pointedge info`: everything that a model's file says of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..ensemble_files import Ensemble


def info(
    model: Annotated[
        str,
        typer.Argument(
            help="a packaged name or a file, also a published PET (FILE@ENERGY), or an ensemble"
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, with all settings")] = False,
) -> None:
    """Print a model's architecture, species, cutoff, baseline, training data and errors.

    Of an ensemble: its members, their weights, and the factors on their standard deviations.
    """
    from ..ensemble_files import find_ensemble
    from ..models import model_card

    if (ensemble := find_ensemble(model)) is not None:
        _print_ensemble(model, ensemble, as_json)
        return
    card = model_card(model)
    if as_json:
        print(json.dumps(card, indent=2, ensure_ascii=False))
        return
    _print_lines(card["name"], _lines(card))


def _print_ensemble(model: str, ensemble: Ensemble, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(ensemble), indent=2, ensure_ascii=False))
        return
    from ..ensemble_files import SPREADS

    lines = [(f"member {k}", member) for k, member in enumerate(ensemble.members, start=1)]
    lines += [
        (f"weight of member {k}", f"{weight:.4g}")
        for k, weight in enumerate(ensemble.weights, start=1)
    ]
    lines += [
        (f"factor on the std of {name}", f"{value:.4g}") for name, value in ensemble.factors.items()
    ]
    if ensemble.factors and (raw := [name for name in SPREADS if name not in ensemble.factors]):
        lines.append(("not calibrated", f"std of {', '.join(raw)}"))
    if "validation" in ensemble.information:
        lines.append(("calibrated on", _plain(ensemble.information["validation"])))
    _print_lines(model, lines)


def _print_lines(title: str, lines: list[tuple[str, str]]) -> None:
    from .options import print_table

    # The longest column would be right-aligned: values go into one left-aligned column instead.
    width = max(len(name) for name, _ in lines)
    print_table([title], [[f"{name:<{width}}  {value}"] for name, value in lines])


def _lines(card: dict[str, Any]) -> list[tuple[str, str]]:
    from ...potentials.outputs import ERRORS
    from .models import training_files

    information = card["information"]
    rmse = {
        kind: ", ".join(
            f"{n} {v:.3g} {ERRORS.get(n, '')}".rstrip()
            for n, v in (information.get(f"{kind}_rmse") or {}).items()
        )
        for kind in ("validation", "test")
    }
    baseline = ", ".join(f"{symbol} {energy:.6f}" for symbol, energy in card["baseline"].items())
    return [
        ("file", f"{card['file']} ({card['bytes'] / 1e6:.2f} MB)"),
        *_origin(information),
        ("architecture", card["architecture"]),
        ("species", " ".join(card["species"])),
        ("inputs", ", ".join(card["inputs"]) or "-"),
        ("cutoff", f"{card['cutoff']:g} Å"),
        ("smoothness", smoothness(card)),
        ("repulsion", "ZBL" if card["repulsion"] else "-"),
        ("baseline / eV", baseline),
        ("scale / eV", f"{card['scale']:.6g}"),
        ("dtype", card["dtype"]),
        ("parameters", f"{card['parameters']:,}"),
        ("trained on", training_files(information)),
        ("data sha256", str(information.get("training_data_sha256", "-"))),
        ("steps", str(information.get("steps", "-"))),
        *((f"{kind} RMSE", text or "-") for kind, text in rmse.items()),
        ("code version", card["code_version"]),
        ("format version", str(card["format_version"])),
        *((f"config.{key}", _plain(value)) for key, value in card["config"].items()),
    ]


def _origin(information: dict[str, Any]) -> list[tuple[str, str]]:
    """Where a published model came from, and what was not read of it."""
    if "origin" not in information:
        return []
    said = {k: _plain(v) for k, v in information.get("published", {}).items() if k != "references"}
    said |= {
        f"references, {kind}": _plain(links)
        for kind, links in information.get("published", {}).get("references", {}).items()
    }
    notes = [("note", note) for note in information.get("notes", [])]
    return [("origin", information["origin"]), *notes, *said.items()]


def smoothness(card: dict[str, Any]) -> str:
    """Say how often the energy can be differentiated where an atom crosses the cutoff."""
    function, width, jump = (card[k] for k in ("cutoff_function", "cutoff_width", "curvature_jump"))
    if power := card["config"].get("envelope_power"):
        return f"polynomial envelope of power {power}: C2; forces and their slopes are continuous"
    if function is None:
        return "-"
    taper = f"{function}, {width:g} Å wide"
    if not jump:
        return f"{taper}: C-infinity"
    return (
        f"{taper}: C1; energy and forces are continuous, the slope of a force jumps by "
        f"{jump:.4g} Å⁻² times the energy that an edge carries"
    )


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(str(item) for item in value)
    return "-" if value is None else str(value)
