// The camera: its stream, and frames of it as pixels, as fast as they are looked at.

/** Returns the stream of the camera that looks away from the person, where there are two. */
export function cameraStream() {
  if (!navigator.mediaDevices) {
    throw new Error("browsers give it to pages of this computer and of https only");
  }
  return navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
}

/** Yields {data: RGBA bytes, width, height} until the stream ends; what comes in between is left out. */
export async function* grab(stream) {
  const video = document.createElement("video");
  video.srcObject = stream;
  video.muted = true;
  await video.play();
  const canvas = new OffscreenCanvas(1, 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  while (stream.active) {
    // A phone that is turned changes them.
    const { videoWidth: width, videoHeight: height } = video;
    Object.assign(canvas, { width, height });
    context.drawImage(video, 0, 0);
    yield { data: context.getImageData(0, 0, width, height).data, width, height };
    // Time for the page to show it. Not an animation frame: those of a hidden page never come.
    await new Promise((resolve) => setTimeout(resolve));
  }
}
