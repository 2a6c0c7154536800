// Runs a graph in onnxruntime-web's WebAssembly under Node: the runtime of the web page without a browser.
//
//   node node_side.mjs REQUEST.json
//   request   {runtime: folder, model: file, input: name, images: [{file, dims}], out: folder}
//   answer    OUT/outputs.json: for each image {name: {file, type, dims}}, and the files, raw
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const request = JSON.parse(await readFile(process.argv[2], "utf8"));
const folder = pathToFileURL(request.runtime + "/").href;
const ort = await import(folder + "ort.wasm.min.mjs");
ort.env.wasm.wasmPaths = folder;
// One thread, as in a page without cross-origin isolation.
ort.env.wasm.numThreads = 1;
// Node's fetch knows no file: addresses.
ort.env.wasm.wasmBinary = await readFile(join(request.runtime, "ort-wasm-simd-threaded.wasm"));

const session = await ort.InferenceSession.create(await readFile(request.model), {
  executionProviders: ["wasm"],
});

async function run(image, number) {
  const bytes = await readFile(image.file);
  const data = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const outputs = await session.run({ [request.input]: new ort.Tensor("float32", data, image.dims) });
  const described = {};
  for (const [name, tensor] of Object.entries(outputs)) {
    const file = `${number}-${Object.keys(described).length}.bin`;
    const raw = tensor.data;
    await writeFile(join(request.out, file), new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength));
    described[name] = { file, type: tensor.type, dims: tensor.dims };
  }
  return described;
}

const described = [];
if (request.parallel) {
  // Asked for all at once: a runtime that used one buffer for all would mix them up.
  described.push(...(await Promise.all(request.images.map(run))));
} else {
  for (const [number, image] of request.images.entries()) described.push(await run(image, number));
}
await writeFile(join(request.out, "outputs.json"), JSON.stringify(described));
