"""The models that are measured: bundles by path and hash, so that any process can open the same ones, and PyTorch."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, InputError, OptionError
from evm_deploy.evaluation.evaluate_options import EvaluateOptions, Scales
from evm_deploy.manifest import CHOSEN, Manifest, Preprocessing, spell_value
from evm_deploy.runtimes import PYTORCH, Runner, find_runtime
from evm_deploy.tasks import FindingsMetric, Metric, find_task, infer_task

EVALUATE_OTHERS = "evaluate classifiers, detectors or segmenters."


@dataclass(frozen=True)
class Contender:
    """A model to measure. Each process opens it by its path, and checks that it is still the same."""

    name: str
    path: Path  # absolute
    sha256: str  # of the manifest, which has the hash of every file; of PyTorch, of the checkpoint
    precision: str
    size: int  # bytes of the model
    preprocessing: Preprocessing
    task: str
    classes: int  # 0: it does not say
    checkpoint: str  # sha256 of the checkpoint that it was made from
    library: bool = True
    way: int | None = None  # index of the ways to run it on this machine; None: the best
    source: tuple[str | None, str | None] | None = None  # PyTorch: the checkpoint's key and kind of scan
    scales: Scales | None = None  # PyTorch: those at which it sees each image, one after the other
    exact: bool = False  # float32, and no weights in fewer bits: fit to be a reference

    @property
    def metric(self) -> Metric | FindingsMetric:
        """That of the task."""
        metric = find_task(self.task).metric
        assert not isinstance(metric, str)
        return metric

    @contextlib.contextmanager
    def open(self) -> Iterator[Runner]:
        """Opens a runner. Raises BundleError if the file has changed since, and MissingToolError."""
        runner = self._open_pytorch() if self.source else self._open_bundle()
        try:
            yield runner
        finally:
            runner.close()

    def _open_bundle(self) -> Runner:
        bundle = Bundle.open(self.path)
        if hash_manifest(bundle.manifest) != self.sha256:
            self._raise_replaced()
        if self.way is None:
            return find_runtime(bundle).open_bundle(bundle, library=self.library)
        ways = find_runtime(bundle).find_ways(bundle).open
        if self.way >= len(ways):
            raise BundleError(f"{self.path} can be run in fewer ways here.", "let all machines have the same tools.")
        return ways[self.way]()

    def _open_pytorch(self) -> Any:
        from evm_deploy.evaluation.several_scales import ScaledNetwork
        from evm_deploy.exporters.deployed import make_reference
        from evm_deploy.models.network import open_checkpoint
        from evm_deploy.runtimes.pytorch import TorchRunner

        key, scan = self.source or (None, None)
        network = open_checkpoint(self.path, key=key, scan=scan)
        if network.record.sha256 != self.sha256:
            self._raise_replaced()
        if self.scales is not None:
            return TorchRunner(ScaledNetwork(network, self.preprocessing, self.scales))
        reference = make_reference(network.module, self.preprocessing)
        reference.last_steps = network.last_steps
        return TorchRunner(reference)

    def _raise_replaced(self) -> None:
        raise BundleError(
            f"{self.path} is not what it was when the evaluation began (its sha256 differs).",
            "do not change it until the evaluation ends, and let every machine see the same files.",
        )


def hash_manifest(manifest: Manifest) -> str:
    """The sha256 of a manifest's text, which contains the hashes of all files of the bundle."""
    return hashlib.sha256(manifest.to_json().encode()).hexdigest()


@dataclass(frozen=True)
class ContenderGroup:
    """All contenders in the order of the report, with what they have in common, and notes for the report."""

    contenders: tuple[Contender, ...]
    reference: int | None  # index of the float model that the others are held against
    classes: int
    labels: tuple[str, ...] | None
    notes: tuple[str, ...]


def read_contenders(paths: Sequence[Path], options: EvaluateOptions) -> ContenderGroup:
    """Reads every bundle, and the checkpoint. Raises InputError for models that cannot be compared."""
    if not paths:
        raise OptionError("there is no bundle to evaluate.", "name one, or several to see them side by side.")
    if len({path.resolve() for path in paths}) != len(paths):
        raise OptionError("a bundle is named twice.", "name each once.")
    bundles = [(path, Bundle.open(path)) for path in paths]
    notes: list[str] = []
    contenders = [one for path, bundle in bundles for one in _read_bundle(path, bundle, options, notes)]
    if options.checkpoint is not None:
        contenders = [*_read_checkpoint(Path(options.checkpoint), options, bundles, notes), *contenders]
    first = contenders[0]
    for one in contenders:
        if one.metric != first.metric:
            what = f"{first.name} is {find_task(first.task).title}, {one.name} {find_task(one.task).title}."
            raise InputError(what, "evaluate models of the same task together.")
        if one.classes != first.classes:
            what = f"{first.name} has {first.classes} classes, {one.name} {one.classes}."
            raise InputError(what, "evaluate models of the same classes together.")
    reference = next((i for i, one in enumerate(contenders) if one.exact), None)
    if options.max_drop is not None and reference is None:
        raise InputError("there is no float32 model to lose accuracy against.", "name a --checkpoint as well.")
    notes += _collect_remarks(contenders, reference)
    return ContenderGroup(
        tuple(contenders), reference, first.classes, _read_labels(bundles), tuple(dict.fromkeys(notes))
    )


def _read_bundle(path: Path, bundle: Bundle, options: EvaluateOptions, notes: list[str]) -> list[Contender]:
    manifest = bundle.manifest
    task = find_task(manifest.task)
    if isinstance(task.metric, str):
        raise BundleError(f"{path} is {task.title}: it {task.metric}.", EVALUATE_OTHERS)
    labels = bundle.labels()
    classes = task.classes(manifest.outputs) if isinstance(task.metric, Metric) else len(labels or ())
    if classes is None:
        raise BundleError(f"{path} does not say how many classes it has.", "export it again.")
    one = Contender(
        name=str(path),
        path=path.resolve(),
        sha256=hash_manifest(manifest),
        precision=manifest.precision,
        size=bundle.size,
        preprocessing=manifest.preprocessing,
        task=task.name,
        classes=classes,
        checkpoint=manifest.checkpoint.sha256,
        library=options.library,
        exact=manifest.precision == "fp32" and (manifest.build or {}).get("weights", "float") == "float",
    )
    if not options.every_way:
        return [one]
    ways = find_runtime(bundle).find_ways(bundle)
    notes += [f"{path}: {note}" for note in ways.notes]
    return [dataclasses.replace(one, way=way) for way in range(len(ways.open))]


def _read_checkpoint(
    path: Path, options: EvaluateOptions, bundles: Sequence[tuple[Path, Bundle]], notes: list[str]
) -> list[Contender]:
    """Makes the contender for PyTorch, preprocessed like the first bundle made from the checkpoint; and, where the
    options ask for it, the one that sees each image at several scales.

    Without one it is preprocessed as the checkpoint states, and like the first bundle where it states nothing.
    """
    from evm_deploy.files import sha256_file
    from evm_deploy.models.network import find_scan, open_checkpoint

    if not path.is_file():
        raise InputError(f"{path} is not a file.", "name the checkpoint that the bundles were made from.")
    made = [bundle for _, bundle in bundles if bundle.manifest.checkpoint.sha256 == sha256_file(path)]
    manifest = (made or [bundles[0][1]])[0].manifest
    key = options.key
    source = (key or (manifest.checkpoint.key if made else None), find_scan(manifest.model))
    network = open_checkpoint(path, key=source[0], scan=source[1])
    if key is not None:
        notes.append(f"{PYTORCH}: {network.record.describe_key()}")
    preprocessing = manifest.preprocessing
    if not made:
        preprocessing = network.recorded.apply(preprocessing)
        notes += network.recorded.remarks.values()
    shapes = network.output_shapes(preprocessing.image_size)
    task = infer_task(shapes) if network.last_steps is None else find_task(network.last_steps.task)
    if isinstance(task.metric, str):
        raise InputError(f"{path} is {task.title}: it {task.metric}.", EVALUATE_OTHERS)
    if isinstance(task.metric, Metric):
        classes = task.classes(task.describe_outputs(shapes)) or 0
    else:
        classes = len(network.class_names or bundles[0][1].labels() or ())
    one = Contender(
        name=PYTORCH,
        path=path.resolve(),
        sha256=network.record.sha256,
        precision="fp32",
        size=path.stat().st_size,
        preprocessing=preprocessing,
        task=task.name,
        classes=classes,
        checkpoint=network.record.sha256,
        source=source,
        exact=True,
    )
    if (scales := options.scales) is None:
        return [one]
    if network.last_steps is None or network.last_steps.combine is None:
        what = f"{path} is {task.title}: what it finds at several scales is not averaged."
        raise OptionError(what, "leave --multi-scale out: it is for semantic segmenters.")
    name, original = f"{PYTORCH} {scales.describe()}", dataclasses.replace(preprocessing, baked=True)
    return [one, dataclasses.replace(one, name=name, preprocessing=original, scales=scales, exact=False)]


def _collect_remarks(contenders: Sequence[Contender], reference: int | None) -> Iterator[str]:
    sizes = sorted({one.preprocessing.image_size for one in contenders})
    if len(sizes) > 1:
        spelt = " and ".join(f"{h}x{w}" for h, w in sizes)
        yield f"the contenders take images of different sizes, each preprocessed as it asks for: {spelt}"
    for name in CHOSEN:
        values = dict.fromkeys(spell_value(getattr(one.preprocessing, name)) for one in contenders)
        if len(values) > 1:
            yield f"the contenders prepare images differently, each as it asks for: {name} {' and '.join(values)}"
    if reference is None:
        yield "no float32 model is among the contenders: agreement and change are not measured (name a --checkpoint)"
        return
    for one in contenders:
        if one.checkpoint != contenders[reference].checkpoint:
            yield f"{one.name} was made from another checkpoint than the reference: agreement compares two networks"


def _read_labels(bundles: Sequence[tuple[Path, Bundle]]) -> tuple[str, ...] | None:
    """The class names of the first bundle that has them. Raises InputError if another bundle has different ones."""
    known = [(path, labels) for path, bundle in bundles if (labels := bundle.labels()) is not None]
    for path, labels in known[1:]:
        if labels != known[0][1]:
            what = f"{known[0][0]} and {path} have different labels."
            raise InputError(what, "evaluate bundles of the same classes together.")
    return known[0][1] if known else None
