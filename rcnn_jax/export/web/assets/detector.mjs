// The model: a session of ONNX Runtime on the best backend that gives the right numbers.

import { decode, fit, networkInput } from "./pixels.mjs";
import { difference } from "./reference.mjs";

/** The runtime failed, and not the picture. */
export class RunError extends Error {}

/** Returns the backends to try, best first. */
export function backends() {
  const wanted = new URLSearchParams(location.search).get("backend");
  return wanted ? [wanted] : [...(navigator.gpu ? ["webgpu"] : []), "wasm"];
}

/** Opens the model on the first backend that is right; `say` is told what happens, for the status line. */
export async function openDetector(model, say, candidates) {
  const reasons = [];
  for (const backend of candidates) {
    try {
      // Zero objects prove nothing: kernels that give nothing but zeros would see none either.
      if (backend !== "wasm" && !model.reference.count) {
        reasons.push(`${backend} cannot be checked: the reference picture shows the model nothing`);
        continue;
      }
      const detector = await open(model, backend, say);
      const problem = await differs(detector, model);
      if (!problem) return { detector, backend, reasons };
      reasons.push(`${backend} gives other objects than it should (${problem})`);
    } catch (error) {
      // WebGPU fails with bare numbers and lost devices; a person needs a sentence.
      reasons.push(`${backend} does not run here: ${sentence(error)}`);
    }
  }
  throw new Error(reasons.join("; "));
}

async function open(model, backend, say) {
  say(`starting ${backend} ...`);
  const runtime = await import(backend === "webgpu" ? model.runtime.webgpu : model.runtime.wasm);
  runtime.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;
  // Threads need headers that a plain file server does not send; one thread always works.
  runtime.env.wasm.numThreads = self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
  const bytes = await download(new URL(model.file, import.meta.url), say);
  const session = await runtime.InferenceSession.create(bytes, { executionProviders: [backend] });
  const detect = async (input) => {
    const [height, width] = [model.geometry.height, model.geometry.width];
    const tensor = new runtime.Tensor("float32", input, [1, model.mean.length, height, width]);
    try {
      return read(await session.run({ [session.inputNames[0]]: tensor }));
    } catch (error) {
      throw new RunError(sentence(error));
    }
  };
  return { detect };
}

async function download(address, say) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address.pathname} is missing (${response.status})`);
  const total = Number(response.headers.get("content-length")) || 0;
  const reader = response.body.getReader();
  const parts = [];
  let received = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    received += value.length;
    if (total) say(`loading the model: ${Math.round((100 * received) / total)} %`);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Returns the detections of the plain outputs: boxes on the canvas, best first. */
function read(outputs) {
  const { boxes, scores, classes, valid, masks } = outputs;
  const side = masks ? masks.dims[2] : 0;
  const detections = [];
  for (let i = 0; i < valid.data.length; i++) {
    if (!valid.data[i]) continue;
    detections.push({
      box: Array.from(boxes.data.slice(4 * i, 4 * i + 4)),
      score: scores.data[i],
      label: Number(classes.data[i]),
      mask: masks ? masks.data.slice(i * side * side, (i + 1) * side * side) : null,
      side,
    });
  }
  return detections;
}

/** Returns the objects of a picture in its own pixels, and the milliseconds of the network. */
export async function detectIn(detector, model, image) {
  const placed = fit(image.height, image.width, model.geometry);
  const input = networkInput(image, placed, model);
  const started = performance.now();
  const detections = await detector.detect(input);
  const milliseconds = performance.now() - started;
  const clip = (value, most) => Math.min(Math.max(value, 0), most);
  const objects = detections.map((each) => ({
    ...each,
    box: each.box.map((side, i) =>
      clip((side + placed.offset[i % 2]) / placed.scale[i % 2], i % 2 ? image.width : image.height)
    ),
  }));
  return { image, objects, milliseconds };
}

/** Returns what is wrong with the objects that a backend sees in the reference picture, or "". */
async function differs(detector, model) {
  const response = await fetch(new URL(model.reference.image, import.meta.url));
  const { objects } = await detectIn(detector, model, await decode(await response.blob()));
  return difference(objects, model.reference);
}

function sentence(error) {
  // The address of an exception inside WebAssembly, whose text is out of reach.
  if (typeof error === "number") {
    return `the runtime stopped (number ${error}), most often for want of memory`;
  }
  return String(error?.message ?? error).split("\n")[0].replace(/\.+$/, "");
}
