// Picture files ↔ RGB pixels, by the browser's own decoders.
import type { Image } from "../src/formats/image.ts";
import { HeddleError } from "../src/web/index.ts";
import { html } from "./dom.ts";

/** Larger pictures are shrunk to this many pixels on their longer side: finer than any text that is read. */
const MAX_SIDE = 4096;

function context(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const found = canvas.getContext("2d", { willReadFrequently: true });
  if (!found) throw new HeddleError("missing", "picture: this browser gives no canvas to decode it on");
  return found;
}

/** Turned upright as the camera noted; transparent pixels on white. */
export async function readPicture(file: Blob): Promise<Image> {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch((cause: unknown) => {
    throw new HeddleError("bad-input", `${file instanceof File ? file.name : "picture"}: this browser cannot decode it as a picture`, {
      cause,
    });
  });
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const to = context(html("canvas", { width, height }));
  to.fillStyle = "white";
  to.fillRect(0, 0, width, height);
  to.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const { data: rgba } = to.getImageData(0, 0, width, height);
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, at = 0; at < data.length; from += 4) for (let c = 0; c < 3; c++) data[at++] = rgba[from + c];
  return { width, height, data };
}

export function pictureCanvas({ width, height, data }: Image, label: string): HTMLCanvasElement {
  const canvas = html("canvas", { width, height, role: "img", "aria-label": label });
  const pixels = new ImageData(width, height);
  pixels.data.fill(255);
  for (let to = 0, at = 0; at < data.length; to += 4) for (let c = 0; c < 3; c++) pixels.data[to + c] = data[at++];
  context(canvas).putImageData(pixels, 0, 0);
  return canvas;
}
