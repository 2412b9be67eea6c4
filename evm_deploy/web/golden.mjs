// Compares outputs with the bundle's golden pair.

/**
 * Found and expected outputs to {relative_error, tolerance, passed}, as the profile has it. `limits` are of
 * config.json; `task` is a row of tasks that find something; others are compared by their numbers.
 */
export function golden(found, expected, limits, task = { compare: compareNumbers }) {
  const { error, most } = task.compare(found, expected, limits);
  const finite = Number.isFinite(error);
  return { relative_error: finite ? error : null, tolerance: most, passed: finite && error <= most };
}

function compareNumbers(found, expected, { most }) {
  let worst = 0;
  expected.forEach((wanted, output) => {
    const values = found[output]?.data ?? [];
    if (values.length !== wanted.data.length) worst = NaN;
    let [error, peak] = [0, 1];
    for (let at = 0; at < values.length; at++) {
      error = Math.max(error, Math.abs(values[at] - wanted.data[at])); // NaN stays NaN
      peak = Math.max(peak, Math.abs(wanted.data[at]));
    }
    worst = Math.max(worst, error / peak);
  });
  return { error: worst, most };
}

const ROUNDING = 1e-3; // how far a probability may be beyond 0 and 1

/** {label, share} of the `count` best classes, of logits or probabilities. Throws where they are none. */
export function best(output, meaning, labels, count) {
  const scores = Array.from(output.data);
  const logits = meaning === "logits";
  const inside = (score) => Number.isFinite(score) && (logits || (score > -ROUNDING && score < 1 + ROUNDING));
  if (scores.length < 2 || !scores.every(inside)) throw new Error("the model gives no scores for it");
  if (labels && labels.length !== scores.length) throw new Error(`the model has ${labels.length} labels for ${scores.length} classes`);
  const peak = Math.max(...scores);
  const shares = logits ? scores.map((score) => Math.exp(score - peak)) : scores;
  const sum = logits ? shares.reduce((total, share) => total + share, 0) : 1;
  return shares
    .map((share, at) => ({ label: labels?.[at] ?? `class ${at}`, share: share / sum }))
    .sort((one, other) => other.share - one.share)
    .slice(0, count);
}
