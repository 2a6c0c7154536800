// The page: a picture by drop, paste, file or camera; objects drawn; a slider for the threshold.

import { cameraStream, grab } from "./camera.mjs";
import { backends, detectIn, openDetector, RunError } from "./detector.mjs";
import { draw } from "./draw.mjs";
import { decode } from "./pixels.mjs";

const $ = (id) => document.getElementById(id);
const say = (text, kind = "") => {
  $("status").textContent = text;
  $("status").className = kind;
};

/**
 * What the page is doing.
 *   model      model.json
 *   detector   of the backend in use
 *   ready      the status line while nothing is wrong
 *   latest     the picture on show: image, objects, milliseconds
 *   waiting    the picture to look at next: a function that gives it, and its name
 *   running    settles when nothing waits any more; never, while the model is not there
 *   stream     of the camera, while it runs
 */
const page = {
  model: null,
  detector: null,
  backend: "",
  ready: "",
  latest: null,
  waiting: null,
  running: new Promise(() => {}),
  stream: null,
};

function show() {
  const threshold = Number($("threshold").value);
  $("value").textContent = threshold.toFixed(2);
  if (!page.latest) return;
  const { image, objects, milliseconds } = page.latest;
  const count = draw($("canvas"), image, objects, page.model.class_names, threshold);
  $("count").textContent = `${count} ${count === 1 ? "object" : "objects"}, ${milliseconds.toFixed(0)} ms`;
}

/** Looks at a picture. One that comes meanwhile is next; of several only the newest is kept. */
function look(read, name = "this picture") {
  page.waiting = { read, name };
  page.running ??= work();
  return page.running;
}

async function work() {
  try {
    while (page.waiting) {
      const picture = page.waiting;
      page.waiting = null;
      await lookAt(picture);
    }
  } finally {
    page.running = null;
  }
}

async function lookAt({ read, name }) {
  try {
    page.latest = await detectWithFallback(await read());
    show();
    // For tests and for whoever wants the numbers: they are those of `rcnn-jax inference`.
    window.detections = page.latest.objects;
    say(page.ready);
  } catch (error) {
    // The next frame would fail too, and nobody could read why.
    stopCamera();
    const what = error instanceof RunError ? `${page.backend} stopped` : `${name} cannot be used`;
    say(`${what}: ${error?.message ?? error}`, "error");
  }
}

/** Detects; a backend that stops, for want of memory or a lost device, is left for the next one. */
async function detectWithFallback(image) {
  try {
    return await detectIn(page.detector, page.model, image);
  } catch (error) {
    const rest = backends().slice(backends().indexOf(page.backend) + 1);
    if (!(error instanceof RunError) || !rest.length) throw error;
    await open(rest, [`${page.backend} stopped: ${error.message}`]);
    return await detectIn(page.detector, page.model, image);
  }
}

/** Opens the model on one of the backends and says which, with why it is none before it. */
async function open(candidates, before = []) {
  const { detector, backend, reasons } = await openDetector(page.model, say, candidates);
  const hint = self.crossOriginIsolated || backend !== "wasm"
    ? ""
    : " One thread: served with Cross-Origin-Opener-Policy: same-origin and "
      + "Cross-Origin-Embedder-Policy: require-corp it would use all cores.";
  const told = [...before, ...reasons].map((text) => `${text}.`);
  const ready = [`ready on ${backend}.`, ...told, hint.trim()].join(" ").trim();
  Object.assign(page, { detector, backend, ready });
  say(ready);
  document.body.dataset.backend = backend;
}

/** Looks at a file that a person has given, in the place of the camera's frames. */
function lookAtFile(file) {
  stopCamera();
  return look(() => decode(file), file.name || "this picture");
}

async function startCamera() {
  // While the browser asks for permission a second press would open a second stream.
  $("camera").disabled = true;
  try {
    page.stream = await cameraStream();
  } finally {
    $("camera").disabled = false;
  }
  const stream = page.stream;
  $("camera").textContent = "stop the camera";
  try {
    for await (const frame of grab(stream)) {
      await look(() => frame, "a frame of the camera");
    }
  } finally {
    if (page.stream === stream) stopCamera();
  }
}

function stopCamera() {
  page.stream?.getTracks().forEach((track) => track.stop());
  page.stream = null;
  $("camera").textContent = "camera";
}

/** Takes what a person does from the first moment on: a picture dropped early waits for the model. */
function listen() {
  $("threshold").oninput = show;
  $("file").onchange = () => {
    const [file] = $("file").files;
    if (file) lookAtFile(file);
    // Else the same file, chosen once more, would be no change.
    $("file").value = "";
  };
  $("camera").onclick = () => {
    if (page.stream) stopCamera();
    else startCamera().catch((error) => say(`no camera: ${error.message}`, "error"));
  };
  document.ondragover = (event) => event.preventDefault();
  document.ondrop = (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) lookAtFile(file);
    else say("only files can be dropped: save the picture first", "error");
  };
  document.onpaste = (event) => {
    const item = [...event.clipboardData.items].find((each) => each.type.startsWith("image/"));
    if (item) lookAtFile(item.getAsFile());
  };
}

async function main() {
  listen();
  page.model = await (await fetch(new URL("./model.json", import.meta.url))).json();
  $("title").textContent = document.title = page.model.title;
  $("threshold").value = page.model.threshold;
  show();
  await open(backends());
  const named = new URLSearchParams(location.search).get("image") ?? page.model.reference.image;
  const { read, name } = page.waiting ?? {
    read: async () => decode(await (await fetch(new URL(named, document.baseURI))).blob()),
    name: named,
  };
  page.running = null;
  $("camera").disabled = false;
  await look(read, name);
  document.body.dataset.state = "ready";
}

main().catch((error) => {
  say(`${error?.message ?? error}`, "error");
  document.body.dataset.state = "failed";
});
