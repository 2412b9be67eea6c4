"""The profile: what every device tells in the same words, version 1 of the schema, and its strict reader.

A device fills what it measured; `summary` and `ratios` are computed of it here (`summaries.py`), the same for all.
Absent is None, never zero. Times are milliseconds, sizes bytes, energies joules, rates per second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from evm_deploy.errors import InputError
from evm_deploy.jsontext import check_version, dumps, read_dataclass, read_object

SCHEMA, VERSION = "evm-deploy/profile", 1
LARGEST = 64 << 20  # bytes of a profile that is read
LONGEST = 1e9  # milliseconds of a run: eleven days

# pydantic reads this attribute of a stdlib dataclass
_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


def _check(what: str, *values: float | None, most: float = LONGEST) -> None:
    """Raises ValueError for one that is not within 0 to `most`: charts and sums would not be of numbers any more."""
    if not all(value is None or 0 <= value <= most for value in values):
        raise ValueError(f"{what} is not within 0 to {most:g}")


@dataclass(frozen=True)
class DeviceFacts:
    """What was measured on."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    kind: Literal["local", "ssh", "adb", "browser"]
    name: str  # host name, model of the phone, ...
    os: str | None = None
    machine: str | None = None  # x86_64, aarch64, ...
    cpu: str | None = None
    cores: int | None = None  # that the process may use
    features: tuple[str, ...] = ()  # of the CPU, those that matter for speed (avx512f, avx512_vnni, asimddp, ...)
    memory_bytes: int | None = None
    accelerator: str | None = None  # GPU, where the runtime used or could use one
    user_agent: str | None = None  # browser
    virtual: bool | None = None  # a virtual machine, whose neighbours take time that nobody there sees


@dataclass(frozen=True)
class Snapshot:
    """The state of the device at one moment, before or after the timed runs."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    load: float | None = None  # running processes, average of the last minute
    governor: str | None = None
    clocks_mhz: tuple[float, ...] | None = None  # by core
    temperatures_c: dict[str, float] | None = None  # by zone
    throttled: bool | None = None  # whether clocks are, or were, held down for heat or power


@dataclass(frozen=True)
class Conditions:
    """What a time is worth nothing without."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    before: Snapshot = Snapshot()
    after: Snapshot = Snapshot()
    threads: int | None = None  # of the runtime; None: as many as it chose
    affinity: tuple[int, ...] | None = None
    cpu_limit: float | None = None  # cores' time that a container may use
    versions: dict[str, str] = field(default_factory=dict)  # name: version
    power: dict[str, str] = field(default_factory=dict)  # modes of power: nvpmodel, jetson_clocks, battery, ...


@dataclass(frozen=True)
class Method:
    """How it was measured."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    iterations: int | None  # timed runs that were asked for, of each contender
    seconds: float | None  # that were asked for instead, of each contender
    warm_up: int  # least runs before it was asked whether times were steady
    interleaved: bool  # contenders took turns: sample i of all results belongs to turn i
    rounds: int | None = None  # of turns, as many in each: models were opened anew for each; None: once


@dataclass(frozen=True)
class Golden:
    """The bundle's golden pair, run on the device before anything was timed."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    relative_error: float | None  # largest difference by the largest golden value; None: not finite
    tolerance: float
    passed: bool


@dataclass(frozen=True)
class Energy:
    """Energy of one inference, with the power of the idle device subtracted."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    source: str  # rapl, tegrastats, battery
    joules: float  # of one inference, idle subtracted
    watts: float  # while running, idle included
    idle_watts: float


@dataclass(frozen=True)
class Memory:
    """Of a fresh process that ran this contender alone."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    peak_bytes: int  # the process's peak
    base_bytes: int | None = None  # what it held with the runtime imported, before the model was loaded


@dataclass(frozen=True)
class Operator:
    """One node of the graph as the runtime runs it."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    name: str
    op: str  # type, such as Conv or evm::SelectiveScan
    kind: str  # scan, convolution, matmul, norm, layout, conversion, activation, elementwise, other
    block: str  # of the network, such as stages.0.blocks.1; "" outside of them
    ms: float  # a run
    share: float  # of the sum
    flops: int | None = None
    bytes: int | None = None  # read and written at least once
    roofline_ms: float | None = None  # least time that this machine's roofline allows
    span_ms: tuple[float, float] | None = None  # start and end in the one run that a trace shows

    def __post_init__(self) -> None:
        _check("an operator's time", self.ms, self.roofline_ms, *(self.span_ms or ()))
        _check("an operator's work", self.flops, self.bytes, most=2**63)


@dataclass(frozen=True)
class Roofline:
    """What the device can do at most, measured there, with the threads of the profile."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    gflops: float  # float32 multiply and add, 1e9 a second
    gbytes: float  # memory, 1e9 bytes a second
    int8_gops: float | None = None
    cache_gbytes: float | None = None
    cache_bytes: int | None = None  # up to which `cache_gbytes` holds


@dataclass(frozen=True)
class Operators:
    """Time by operator."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    runs: int  # that the times are means of: the quieter half
    whole_ms: float  # of a run, less what recording its operators cost
    rows: tuple[Operator, ...]
    roofline: Roofline | None = None


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Statistics of the samples, milliseconds."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    count: int
    mean: Interval
    p50: Interval
    p90: Interval
    p95: Interval
    p99: Interval
    std: float
    min: float
    max: float


@dataclass(frozen=True)
class Estimate:
    """What a device that nobody measured on would take at least, by its data sheet: never a measurement."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    device: str
    ms: float
    low: float  # with the errors that the estimate made on this machine
    high: float
    source: str
    note: str


@dataclass(frozen=True)
class Result:
    """One contender: a bundle, run in one way."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    name: str  # unique in the profile
    bundle: str
    runtime: str  # onnxruntime, onnxruntime + evm_ops, trtexec, onnxruntime-web wasm, PyTorch, ...
    provider: str | None
    target: str
    precision: str
    sha256: str  # of the bundle's manifest, and with it of every file
    size_bytes: int  # of the model
    error: str | None = None  # why there are no times
    golden: Golden | None = None
    load_ms: float | None = None
    first_ms: float | None = None  # the first inference after loading
    warm_up_runs: int | None = None
    steady: bool | None = None  # whether times had settled when timing began
    samples_ms: tuple[float, ...] = ()
    memory: Memory | None = None
    energy: Energy | None = None
    operators: Operators | None = None
    accuracy: float | None = None  # top-1, where it was evaluated
    notes: tuple[str, ...] = ()
    summary: Summary | None = None
    estimates: tuple[Estimate, ...] = ()

    def __post_init__(self) -> None:
        _check("a sample", *self.samples_ms)
        _check("a time", self.load_ms, self.first_ms)
        _check("a size", self.size_bytes, most=2**63)
        _check("a share", self.accuracy, most=1)
        if not self.samples_ms and self.error is None:
            raise ValueError("a result has neither samples nor an error")


@dataclass(frozen=True)
class Ratio:
    """How much longer one contender takes than another: the median of the ratios of neighbouring turns."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    name: str
    reference: str
    ratio: Interval


@dataclass(frozen=True)
class ProfileReport:
    """Everything that a profile says."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    device: DeviceFacts
    conditions: Conditions
    method: Method
    results: tuple[Result, ...]
    created: str  # UTC, ISO 8601
    tool: str  # evm-deploy's version, or the app's
    ratios: tuple[Ratio, ...] = ()  # each contender by the first
    warnings: tuple[str, ...] = ()  # what makes the figures worth less, or nothing
    schema: str = SCHEMA
    version: int = VERSION

    def __post_init__(self) -> None:
        names = [result.name for result in self.results]
        if len(set(names)) != len(names):
            raise ValueError("two results have one name")
        if not 1 <= len(names) <= 256:
            raise ValueError("a profile has 1 to 256 results")

    def to_json(self) -> str:
        """Stable text."""
        return dumps(self)

    @classmethod
    def from_json(cls, text: bytes, where: str = "the profile") -> ProfileReport:
        """Reads untrusted text. Raises InputError: too large, not JSON, another schema or version, an unknown key."""
        fix = "name a file that `evm-deploy profile --json` or `--out` wrote."
        if len(text) > LARGEST:
            raise InputError(f"{where} has more than {LARGEST} bytes.", fix)
        found = read_object(text, where, InputError, fix)
        if found.get("schema") != SCHEMA:
            raise InputError(f"{where} is not a profile (its schema is {str(found.get('schema'))[:60]!r}).", fix)
        check_version(found.get("version"), VERSION, where, InputError)
        return read_dataclass(ProfileReport, text, where, InputError, fix)
