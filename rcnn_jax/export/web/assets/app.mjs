// The page: a picture by drop, file or camera; objects drawn; a slider for the threshold.

import { backends, detectIn, openDetector, RunError } from "./detector.mjs";
import { draw } from "./draw.mjs";

const $ = (id) => document.getElementById(id);
const say = (text, kind = "") => {
  $("status").textContent = text;
  $("status").className = kind;
};
let latest = null; // the picture on show: image, objects, milliseconds
let busy = false;

function show(model) {
  if (!latest) return;
  const threshold = Number($("threshold").value);
  $("value").textContent = threshold.toFixed(2);
  const count = draw($("canvas"), latest.image, latest.objects, model.class_names, threshold);
  $("count").textContent = `${count} objects, ${latest.milliseconds.toFixed(0)} ms`;
}

async function look(state, model, blob) {
  if (busy) return; // a camera is faster than a network: frames in between are left out
  busy = true;
  try {
    latest = await detectWithFallback(state, model, blob);
    show(model);
    // For tests and for whoever wants the numbers: they are those of `rcnn-jax inference`.
    window.detections = latest.objects;
  } catch (error) {
    const what = error instanceof RunError ? `${state.backend} stopped` : "this picture cannot be used";
    say(`${what}: ${error?.message ?? error}`, "error");
  } finally {
    busy = false;
  }
}

/** Detects; a backend that stops, for want of memory or a lost device, is left for the next one. */
async function detectWithFallback(state, model, blob) {
  try {
    return await detectIn(state.detector, model, blob);
  } catch (error) {
    const rest = backends().slice(backends().indexOf(state.backend) + 1);
    if (!(error instanceof RunError) || !rest.length) throw error;
    await open(state, model, rest, [`${state.backend} stopped: ${error.message}`]);
    return await detectIn(state.detector, model, blob);
  }
}

/** Opens the model on one of the backends and says which, with why it is none before it. */
async function open(state, model, candidates, before = []) {
  const { detector, backend, reasons } = await openDetector(model, say, candidates);
  Object.assign(state, { detector, backend });
  const hint = self.crossOriginIsolated || backend !== "wasm"
    ? ""
    : " One thread: served with Cross-Origin-Opener-Policy: same-origin and "
      + "Cross-Origin-Embedder-Policy: require-corp it would use all cores.";
  const told = [...before, ...reasons].map((text) => `${text}.`);
  say([`ready on ${backend}.`, ...told, hint.trim()].join(" ").trim());
  document.body.dataset.backend = backend;
}

async function camera(state, model) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  const video = document.createElement("video");
  video.srcObject = stream;
  video.muted = true;
  await video.play();
  $("camera").textContent = "stop the camera";
  $("camera").onclick = () => {
    stream.getTracks().forEach((track) => track.stop());
    $("camera").textContent = "camera";
    $("camera").onclick = () => camera(state, model);
  };
  const frame = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  while (stream.active) {
    frame.getContext("2d").drawImage(video, 0, 0);
    await look(state, model, await frame.convertToBlob({ type: "image/png" }));
    await new Promise(requestAnimationFrame);
  }
}

async function main() {
  const model = await (await fetch(new URL("./model.json", import.meta.url))).json();
  $("title").textContent = document.title = model.title;
  $("threshold").value = model.threshold;
  const state = { detector: null, backend: "" };
  await open(state, model, backends());
  $("threshold").oninput = () => show(model);
  $("file").onchange = () => $("file").files[0] && look(state, model, $("file").files[0]);
  $("camera").onclick = () => camera(state, model).catch((e) => say(`no camera: ${e.message}`, "error"));
  document.ondragover = (event) => event.preventDefault();
  document.ondrop = (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) look(state, model, file);
  };
  document.onpaste = (event) => {
    const item = [...event.clipboardData.items].find((each) => each.type.startsWith("image/"));
    if (item) look(state, model, item.getAsFile());
  };
  const named = new URLSearchParams(location.search).get("image") ?? model.reference.image;
  const response = await fetch(new URL(named, document.baseURI));
  await look(state, model, await response.blob());
  document.body.dataset.state = "ready";
}

main().catch((error) => {
  say(`${error?.message ?? error}`, "error");
  document.body.dataset.state = "failed";
});
