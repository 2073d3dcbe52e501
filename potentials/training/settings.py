"""Sections of the training configuration, with defaults, units and meanings in one place."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .slices import SliceText

Kind = Literal["squared", "absolute", "huber"]


class Strict(BaseModel):
    """A section: nothing unknown is taken, and nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and {annotation, *get_args(annotation)} & {int, float}:
            raise ValueError(f"a number is expected, not {value}")
        return value


AUTO = "auto"


class Frames(Strict):
    """Which frames to read: files, and the values of ``atoms.info`` keys to select."""

    files: list[str] = Field(
        min_length=1,
        description="files that ASE can read, or of a named data set: see `pointedge data list`",
    )
    index: SliceText = Field(":", description="which frames of each file, as a slice: ':80'")
    where: dict[str, list[str]] = Field(
        {}, description="keep frames whose info key is one of these, or like one: 'Mo_*'"
    )
    take: SliceText | None = Field(
        None, description="keep this slice of the frames selected so far: '::10' is every tenth"
    )
    leave: SliceText | None = Field(
        None, description="keep all but this slice: the rest of a `take` of the same frames"
    )
    unless: dict[str, list[str]] = Field(
        {}, description="of those, drop frames whose info key is one of these, or like one"
    )
    weight: float = Field(1.0, ge=0, description="of these frames in the loss, times their own")

    @model_validator(mode="after")
    def _take_or_leave(self) -> Frames:
        if self.take is not None and self.leave is not None:
            raise ValueError("a selection has either take or leave")
        return self


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Selections = Annotated[list[Frames], BeforeValidator(_several)]  # one is as good as a list of one
Key = str | None


class Data(Strict):
    """Frames, and the names of their labels: "auto" for the usual ones, null to read none."""

    train: Selections = Field(min_length=1, description="one selection or a list of them")
    validation: Selections = Field(
        min_length=1, description="one selection or a list of them; chooses the best weights"
    )
    test: Selections = Field(
        [], description="selections that neither train nor choose; errors are reported at the end"
    )
    description: str = Field("", description="origin, method and licence, for the model card")
    energy_key: Key = Field(AUTO, description="eV; auto: REF_energy, energy and the like")
    forces_key: Key = Field(AUTO, description="eV/Å; auto: REF_forces, forces and the like")
    stress_key: Key = Field(
        AUTO,
        description="eV/Å³, negative if compressed, 3x3 or Voigt; or a virial, -stress · volume in"
        " eV, if 'virial' is in its name; auto: REF_stress, stress, then virial",
    )
    dipole_key: Key = Field(AUTO, description="e·Å; auto: REF_dipole, dipole")
    polarizability_key: Key = Field(
        AUTO, description="any unit; 3x3, symmetric; auto: REF_polarizability, polarizability"
    )
    magmoms_key: str = Field(
        AUTO,
        description="μ_B, a number or vector per atom, an input of spin-aware models; auto:"
        " initial_magmoms, REF_spin, REF_magmoms, magmoms",
    )
    train_on_test_splits: bool = Field(
        False, description="allow training frames that are in a test split of the registry"
    )
    cache: str | None = Field(
        None,
        description="folder, relative to this file, for frames and neighbor lists as memory-mapped"
        " files, which later runs use again; for data larger than memory",
    )
    weight_key: str | None = Field(
        None, description="info key of a frame's weight in the loss; without it 1"
    )
    group_weights: dict[str, dict[str, NonNegativeFloat]] = Field(
        {}, description="factors on that weight: of an info key, for each of some values"
    )


class Kinds(Strict):
    """What an error of each label counts in the loss; one word stands for all labels."""

    energy: Kind = Field("squared", description="penalty of an error of the energy per atom")
    forces: Kind = Field("squared", description="penalty of an error of a force component")
    stress: Kind = Field("squared", description="penalty of an error of a stress component")
    dipole: Kind = Field("squared", description="penalty of an error of a dipole component")
    polarizability: Kind = Field("squared", description="penalty of an error of a component")

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, values: Any) -> Any:
        return dict.fromkeys(cls.model_fields, values) if isinstance(values, str) else values


class HuberDeltas(Strict):
    """Errors beyond which a Huber penalty grows linearly."""

    energy: float = Field(0.01, gt=0, description="eV/atom")
    forces: float = Field(0.1, gt=0, description="eV/Å")
    stress: float = Field(0.001, gt=0, description="eV/Å³")
    dipole: float = Field(0.1, gt=0, description="e·Å")
    polarizability: float = Field(1.0, gt=0, description="in the unit of the labels")


class Loss(Strict):
    """What is minimised: for every label weight × mean penalty / scale; weight 0 leaves it out.

    Sliding scales need no units, and no label drowns the others at any stage of a training; fixed
    weights are per unit of the penalty, such as 1/(eV/Å)² for squared errors of forces.
    """

    energy: float = Field(0.1, ge=0, description="weight of the energy per atom")
    forces: float = Field(1.0, ge=0, description="weight of force components")
    stress: float = Field(0.0, ge=0, description="weight of stress components")
    dipole: float = Field(0.0, ge=0, description="weight of dipole components")
    polarizability: float = Field(0.0, ge=0, description="weight of polarizability components")
    kind: Kinds = Kinds()
    huber_delta: HuberDeltas = HuberDeltas()
    normalization: Literal["sliding", "sliding_epoch", "fixed"] = Field(
        "sliding",
        description="scale of each label: running mean of its own penalty, from step to step"
        " (sliding) or from validation to validation (sliding_epoch, as in the original PET), or 1:"
        " weights are per eV/atom, eV/Å, eV/Å³ and e·Å (fixed, as in metatrain)",
    )
    memory: float = Field(0.98, ge=0, lt=1, description="decay of running means per step")
    epoch_memory: float = Field(
        0.7, ge=0, lt=1, description="of their roots per validation, for sliding_epoch"
    )

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels with a weight."""
        return tuple(name for name in Kinds.model_fields if getattr(self, name) > 0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.labels:
            raise ValueError("all weights are 0; give one label a weight, such as forces: 1.")
        for name in Kinds.model_fields:
            changed = getattr(self.huber_delta, name) != getattr(HuberDeltas(), name)
            if changed and getattr(self.kind, name) != "huber":
                raise ValueError(
                    f"huber_delta.{name} is set, but kind.{name} is {getattr(self.kind, name)!r};"
                    " set it to 'huber', or leave huber_delta out."
                )
        return self


BATCH_LIMITS = ("batch_size", "batch_atoms", "batch_edges")


class Optimization(Strict):
    """AdamW or Muon with linear warm-up and cosine decay to zero."""

    batch_size: int | None = Field(
        None, ge=1, description="structures per step, over all devices; 1 if no limit is given"
    )
    batch_atoms: int | None = Field(
        None, ge=1, description="instead: most atoms per step, or one larger structure"
    )
    batch_edges: int | None = Field(
        None, ge=1, description="instead: most pairs within the cutoff (i to j and j to i) per step"
    )
    max_epochs: int = Field(100, ge=1, description="passes over the training frames")
    max_hours: float | None = Field(
        None, gt=0, description="if this is over first, the schedule ends with it, h"
    )
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: steps of matrices are orthogonal (arXiv 2502.16982)"
    )
    learning_rate: float = Field(
        1e-3, gt=0, description="peak value, of adamw; muon itself takes three times as much"
    )
    warmup_fraction: float = Field(0.02, ge=0, lt=1, description="of all steps")
    weight_decay: float = Field(0.01, ge=0, description="of matrices; vectors have none")
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="of the averaged weights, per step")
    precision: Literal["float32", "tf32", "bf16", "float64"] = Field(
        "float32",
        description="of the network; tf32 (NVIDIA GPUs) and bf16 multiply float32 matrices faster"
        " and less exactly in training, by how much is printed before",
    )
    augment: bool = Field(True, description="turn every structure by a random element of O(3)")
    validate_every: int = Field(1, ge=1, description="epochs between validations")
    seed: int = Field(0, ge=0, lt=2**64, description="of weights, order of frames and orientations")

    @model_validator(mode="before")
    @classmethod
    def _one_batch_limit(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = [key for key in BATCH_LIMITS if values.get(key) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are both given, and a batch has one limit")
        return values if given else {**values, "batch_size": 1}


class Run(Strict):
    """How and where a run is carried out; all of it may change when a run is resumed."""

    device: str = Field("cpu", description="cpu, or cuda for GPUs; cuda:1 is the second one alone")
    devices: int = Field(
        1, ge=1, description="processes per machine, each with a device of its own"
    )
    num_nodes: int = Field(1, ge=1, description="machines; each runs the same command (SLURM)")
    workers: int = Field(0, ge=0, description="processes that prepare batches ahead, per device")
    checkpoint_minutes: float = Field(
        10.0,
        gt=0,
        description="time between checkpoints inside an epoch, min; each epoch ends with one",
    )
    max_time: float | None = Field(
        None,
        gt=0,
        description="stop after this time, preparation included, with a state to resume from, h:"
        " the limit of a queue; the schedule knows nothing of it (optimization.max_hours is the"
        " schedule's length)",
    )
    log_every: int = Field(20, ge=1, description="steps that a row of the log averages over")
    loggers: list[Literal["tensorboard", "wandb"]] = Field(
        [], description="beside log/metrics.csv; wandb keeps its files offline, for `wandb sync`"
    )
    plot: bool = Field(True, description="draw progress.png as the run goes on")


class FineTuning(Strict):
    """What is trained of a checkpoint that a run starts from."""

    method: Literal["full", "heads", "lora"] = Field(
        "full",
        description="all weights; those that read properties from features; or low-rank updates of"
        " linear maps (arXiv 2106.09685), merged into them when saved",
    )
    rank: int = Field(4, ge=1, description="of the updates of lora")
    alpha: float = Field(8.0, gt=0, description="alpha / rank multiplies the updates of lora")
    linear_maps: Literal["attention", "all"] = Field(
        "attention", description="which lora updates: those of attention, or all but of heads"
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor on the learning rate for every layer farther from the heads",
    )
    add_species: bool = Field(
        False,
        description="let the data bring species that the checkpoint does not know; energies of the"
        " others are the same before training",
    )
    baseline: Literal["keep", "refit"] = Field(
        "keep",
        description="energies of species: fit those of new species only (after training all, as far"
        " as averaged weights lag behind), or all, as data of another method need it",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("rank", "alpha", "linear_maps"):
            changed = getattr(self, name) != type(self).model_fields[name].default
            if changed and self.method != "lora":
                raise ValueError(f"{name} is of method lora, but method is {self.method!r}")
        return self
