// Reads a photograph from a file, turned upright as the camera noted, and writes a picture to one.
import { readFile } from "node:fs/promises";
import { type Image, readImage, writePng } from "../../src/formats/image.ts";
import { writeFileAtomic } from "../../src/formats/write_file.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { exifOrientation, upright } from "./exif.ts";

/** A JPEG or PNG file. Throws HeddleError: `io` (unreadable), `bad-input` (not such a picture), `limit` (too large). */
export async function readPhotograph(path: string): Promise<Image> {
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === "ENOENT" ? "there is no such file" : cause.message;
    throw new HeddleError("io", `${path}: cannot be read: ${why}`, { cause });
  });
  return upright(await readImage(bytes, path), exifOrientation(bytes));
}

/** A PNG file, whole or not at all. */
export async function writePicture(path: string, image: Image): Promise<void> {
  await writeFileAtomic(path, await writePng(image));
}
