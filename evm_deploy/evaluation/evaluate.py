"""Runs an evaluation: the steps in order."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from evm_deploy.data.annotations import read_annotations
from evm_deploy.data.samples import Data, read_samples
from evm_deploy.evaluation import cluster, contenders, latency, report, report_folder, running
from evm_deploy.evaluation.evaluate_options import EvaluateOptions
from evm_deploy.tasks import Metric


def evaluate(
    bundles: Sequence[Path], data: Data, options: EvaluateOptions, say: Callable[[str], None]
) -> report.EvaluationReport:
    """Implements `pipeline.evaluate`, which documents its errors."""
    out = None if options.out is None else Path(options.out)
    if out is not None:
        report_folder.check_free(out)
    say("reading the bundles")
    field = contenders.read_contenders(bundles, options)
    held = options.floor is not None or options.max_drop is not None
    if options.distributed and isinstance(data, (str, os.PathLike)) and not str(data).startswith("random:"):
        data = Path(data).absolute()  # workers may have another current folder
    kinds = dict.fromkeys(one.preprocessing for one in field.contenders)
    metric = field.contenders[0].metric
    annotations = read_annotations(metric, options.annotations, zero_is_ignored=options.reduce_zero_label)
    first = read_samples(
        data,
        next(iter(kinds)),
        count=options.count,
        seed=options.seed,
        labels=field.labels,
        need_labels=held and annotations is None,
        annotations=annotations,
    )
    samples = {kind: first if kind == first.preprocessing else first.prepare_for(kind) for kind in kinds}
    if isinstance(metric, Metric):
        metric.check_labels(first.labels, first.classes, field.classes, field.labels)
    if options.distributed:
        answers = cluster.run_shards(field.contenders, samples, options, say)
    else:
        answers = running.collect_answers(field.contenders, samples, say)
    times: Sequence[latency.Latency | None] = [None] * len(field.contenders)
    if options.latency_runs:
        say("timing")
        times = latency.measure_latency(field.contenders, samples, options.latency_runs)
    found = report.build_report(field, answers, times, first, options, latency.describe_conditions())
    if out is not None:
        report_folder.write_report(found, out)
    return found
