// Fetches the files of a bundle, and compares each with its hash in the manifest.

import { checkTask } from "./findings.mjs";
import { readNpy } from "./npy.mjs";
import { readPlan } from "./parts.mjs";
import { readSteps } from "./preprocess.mjs";
import { sha256 } from "./sha256.mjs";

/**
 * Fetches a model of config.json ({name, folder, sha256, limits, cut}); `tell(bytes)` hears how much has arrived.
 * Resolves to {name, limits, manifest, steps, sha256, model, input, expected, labels, cut}. Rejects: a file is
 * missing or is not the one that was exported, or the manifest asks for what is not known here.
 */
export async function openBundle(entry, tell) {
  const text = await fetched(entry.folder + "manifest.json", tell);
  if ((await sha256(text)) !== entry.sha256) throw new Error(`manifest.json of ${entry.name} has been changed`);
  const manifest = JSON.parse(new TextDecoder().decode(text));
  const steps = readSteps(manifest.preprocessing);
  checkTask(manifest);
  const read = async (name) => {
    const bytes = await fetched(entry.folder + name.split("/").map(encodeURIComponent).join("/"), tell);
    if ((await sha256(bytes)) !== manifest.files[name]) throw new Error(`${name} of ${entry.name} has been changed`);
    return bytes;
  };
  const count = manifest.outputs.length;
  const outputs = count === 1 ? ["sample/output.npy"] : manifest.outputs.map((_, at) => `sample/output${at}.npy`);
  const expected = [];
  for (const name of outputs) expected.push(readNpy((await read(name)).buffer));
  const labels = manifest.labels === null ? null : lines(await read(manifest.labels));
  const input = readNpy((await read("sample/input.npy")).buffer);
  const model = await read(manifest.model_file);
  const cut = entry.cut ? await openCut(entry, tell) : null;
  return { ...entry, manifest, steps, model, input, expected, labels, cut };
}

/** The cut graph of a model: {plan, files: bytes by name}. */
async function openCut({ name, cut }, tell) {
  const open = async (file, digest) => {
    const bytes = await fetched(cut.folder + file, tell);
    if ((await sha256(bytes)) !== digest) throw new Error(`${file} of ${name} has been changed`);
    return bytes;
  };
  const plan = readPlan(await open(cut.plan, cut.sha256));
  const files = {};
  for (const [file, digest] of Object.entries(plan.files)) files[file] = await open(file, digest);
  return { plan, files };
}

/** The bytes of the kernels' module that config.json names, or null. */
export async function openKernels({ kernels }) {
  if (!kernels) return null;
  const bytes = await fetched(`runtime/${kernels.file}`, () => {});
  if ((await sha256(bytes)) !== kernels.sha256) throw new Error(`${kernels.file} has been changed`);
  return bytes;
}

/** Bytes of a file beside this page. */
async function fetched(path, tell) {
  const answer = await fetch(new URL(path, document.baseURI), { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`${path} cannot be fetched (${answer.status})`);
  const parts = [];
  let size = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
    tell(value.length);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function lines(bytes) {
  return new TextDecoder().decode(bytes).replace(/\n$/, "").split("\n");
}
