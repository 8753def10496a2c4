// Pictures as the core has them, [height][width][channels] bytes, on canvases and back.

// One or two channels are grey (the second is left out), three or four are red, green, blue.
const colours = (channels) => (channels < 3 ? [0, 0, 0] : [0, 1, 2]);

export function show(canvas, pixels, { height, width, channels }) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const of = colours(channels);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[channels * i + of[c]];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

// Fills `pixels` with an image (anything that a canvas draws), fitted whole into the picture.
export function load(image, pixels, { height, width, channels }) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, width, height);
  const scale = Math.min(width / image.width, height / image.height);
  const [w, h] = [image.width * scale, image.height * scale];
  context.imageSmoothingQuality = "high";
  context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
  const { data } = context.getImageData(0, 0, width, height);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = data.subarray(4 * i, 4 * i + 3);
    const values = channels < 3 ? [Math.round(0.299 * r + 0.587 * g + 0.114 * b)] : [r, g, b];
    for (let c = 0; c < channels; c++) pixels[channels * i + c] = values[c] ?? 255;
  }
}
