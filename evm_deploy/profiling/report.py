"""The profile that every device returns: version 1 of the schema, and its strict reader.

A device fills in what it measured; `summary` and `ratios` are computed from it here (`summaries.py`), in the same way
for all devices. None means not measured; it is never written as 0. Times are in milliseconds, sizes in bytes, energies
in joules, rates per second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from evm_deploy.errors import InputError
from evm_deploy.jsontext import check_version, dumps, read_dataclass, read_object

SCHEMA, VERSION = "evm-deploy/profile", 1
LARGEST = 64 << 20  # largest profile that is read, in bytes
LONGEST = 1e9  # longest run in milliseconds: eleven days
LEAST = 1e-9  # smallest value above 0

# pydantic reads this attribute of a stdlib dataclass
_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


def _check(what: str, *values: float | None, most: float = LONGEST, zero: bool = True) -> None:
    """Raises ValueError: a value is not within LEAST to `most`, nor 0 with `zero`; sums and charts would fail."""
    if not all(value is None or (zero and value == 0) or LEAST <= value <= most for value in values):
        raise ValueError(f"{what} is not{' 0 or' * zero} within {LEAST:g} to {most:g}")


@dataclass(frozen=True)
class DeviceFacts:
    """The device."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    kind: Literal["local", "ssh", "adb", "browser"]
    name: str  # the host name, the model of the phone, ...
    os: str | None = None
    machine: str | None = None  # x86_64, aarch64, ...
    cpu: str | None = None
    cores: int | None = None  # cores that the process may use
    features: tuple[str, ...] = ()  # features of the CPU that affect speed (avx512f, avx512_vnni, asimddp, ...)
    memory_bytes: int | None = None
    accelerator: str | None = None  # the GPU, if the runtime used or could use one
    user_agent: str | None = None  # the browser's user agent
    virtual: bool | None = None  # whether it is a virtual machine, which others can slow down unseen


@dataclass(frozen=True)
class Snapshot:
    """The state of the device at one moment, before or after the timed runs."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    load: float | None = None  # average number of running processes in the last minute
    governor: str | None = None
    clocks_mhz: tuple[float, ...] | None = None  # by core
    temperatures_c: dict[str, float] | None = None  # by zone
    throttled: bool | None = None  # whether clocks are or were reduced because of heat or power


@dataclass(frozen=True)
class Conditions:
    """The conditions of a measurement, without which its times mean nothing."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    before: Snapshot = Snapshot()
    after: Snapshot = Snapshot()
    threads: int | None = None  # threads of the runtime; None: the runtime chose
    affinity: tuple[int, ...] | None = None
    cpu_limit: float | None = None  # CPU limit of the container, in cores
    versions: dict[str, str] = field(default_factory=dict)  # name: version
    power: dict[str, str] = field(default_factory=dict)  # power modes: nvpmodel, jetson_clocks, battery, ...


@dataclass(frozen=True)
class Method:
    """The method of the measurement."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    iterations: int | None  # requested number of timed runs of each contender
    seconds: float | None  # requested duration for each contender, instead of iterations
    warm_up: int  # least number of runs before checking whether times were steady
    interleaved: bool  # whether contenders took turns: sample i of all results belongs to turn i
    rounds: int | None = None  # rounds of equally many turns; models were opened again for each; None: one round


@dataclass(frozen=True)
class Golden:
    """The bundle's golden pair, run on the device before the timing."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    relative_error: float | None  # largest difference divided by the largest golden value; None: not finite
    tolerance: float
    passed: bool


@dataclass(frozen=True)
class Energy:
    """The energy of one inference, without the power of the idle device."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    source: str  # rapl, tegrastats, battery
    joules: float  # energy of one inference, without the idle power
    watts: float  # power while running, including the idle power
    idle_watts: float


@dataclass(frozen=True)
class Memory:
    """The memory of a new process that ran only this contender."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    peak_bytes: int  # peak of the process
    base_bytes: int | None = None  # before the model was loaded, with the runtime imported


@dataclass(frozen=True)
class TimedOperator:
    """The time of one node of the runtime's graph."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    name: str
    op: str  # type, such as Conv or evm::SelectiveScan
    kind: str  # scan, convolution, matmul, norm, layout, conversion, activation, elementwise, other
    block: str  # the block of the network, such as stages.0.blocks.1; "" outside of blocks
    ms: float  # time per run
    share: float  # share of the sum over all operators
    flops: int | None = None
    bytes: int | None = None  # bytes that must be read and written at least once
    roofline_ms: float | None = None  # least time by the machine's roofline
    span_ms: tuple[float, float] | None = None  # start and end in the run that the trace shows

    def __post_init__(self) -> None:
        _check("an operator's time", self.ms, self.roofline_ms, *(self.span_ms or ()))
        _check("an operator's work", self.flops, self.bytes, most=2**63)


@dataclass(frozen=True)
class Roofline:
    """The peak rates of the device, measured on it with the threads of the profile."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    gflops: float  # float32 multiplications and additions, 1e9 per second
    gbytes: float  # memory bandwidth, 1e9 bytes per second
    int8_gops: float | None = None
    cache_gbytes: float | None = None
    cache_bytes: int | None = None  # largest size for which `cache_gbytes` applies

    def __post_init__(self) -> None:
        _check("a rate", self.gflops, self.gbytes, self.int8_gops, self.cache_gbytes, zero=False)
        _check("a size", self.cache_bytes, most=2**63)


@dataclass(frozen=True)
class Operators:
    """The times of all operators."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    runs: int  # the times are means of this many runs, the faster half
    whole_ms: float  # time of a run, without the cost of recording its operators
    rows: tuple[TimedOperator, ...]
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
    """Statistics of the samples, in milliseconds."""

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
    """An estimate of the least time on a device that was not measured, from its data sheet."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    device: str
    ms: float
    low: float  # the range allows for the errors of the same estimate on this machine
    high: float
    source: str
    note: str


@dataclass(frozen=True)
class Result:
    """The result of one contender: a bundle, run in one way."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    name: str  # unique in the profile
    bundle: str
    runtime: str  # onnxruntime, onnxruntime + evm_ops, trtexec, onnxruntime-web wasm, PyTorch, ...
    provider: str | None
    target: str
    precision: str
    sha256: str  # of the bundle's manifest, which has the hash of every file
    size_bytes: int  # size of the model
    error: str | None = None  # the reason why there are no times
    golden: Golden | None = None
    load_ms: float | None = None
    first_ms: float | None = None  # time of the first inference after loading
    warm_up_runs: int | None = None
    steady: bool | None = None  # whether times were steady when the timing started
    samples_ms: tuple[float, ...] = ()
    memory: Memory | None = None
    energy: Energy | None = None
    operators: Operators | None = None
    accuracy: float | None = None  # top-1, if it was evaluated
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
    """The time of one contender relative to another: the median of the ratios of neighbouring turns."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    name: str
    reference: str
    ratio: Interval


@dataclass(frozen=True)
class ProfileReport:
    """A complete profile."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    device: DeviceFacts
    conditions: Conditions
    method: Method
    results: tuple[Result, ...]
    created: str  # UTC, ISO 8601
    tool: str  # evm-deploy's version, or the app's
    ratios: tuple[Ratio, ...] = ()  # each contender relative to the first
    warnings: tuple[str, ...] = ()  # conditions that make the figures less reliable
    schema: str = SCHEMA
    version: int = VERSION

    def __post_init__(self) -> None:
        names = [result.name for result in self.results]
        if len(set(names)) != len(names):
            raise ValueError("two results have the same name")
        if not 1 <= len(names) <= 256:
            raise ValueError("a profile has 1 to 256 results")

    def to_json(self) -> str:
        """The JSON text; the same report gives the same text."""
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
