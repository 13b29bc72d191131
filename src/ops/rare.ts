// Operators that few networks have: pages load them where a network has one.
import type { Op } from "../ir/graph.ts";
import { attentionOps } from "./attention.ts";
import { controlOps } from "./control.ts";
import { detOps } from "./det.ts";
import { einsumOps } from "./einsum.ts";
import { fourierOps } from "./fourier.ts";
import { gridSampleOps } from "./grid_sample.ts";
import { lossOps } from "./loss.ts";
import { nonMaxSuppressionOps } from "./non_max_suppression.ts";
import { randomOps } from "./random.ts";
import { rnnOps } from "./rnn.ts";
import { roiOps } from "./roi.ts";
import { rotaryEmbeddingOps } from "./rotary_embedding.ts";
import { tfIdfOps } from "./tf_idf.ts";
import { unpoolOps } from "./unpool.ts";
import { windowOps } from "./window.ts";

const families: readonly (readonly Op[])[] = [
  randomOps,
  windowOps,
  attentionOps,
  rotaryEmbeddingOps,
  controlOps,
  einsumOps,
  lossOps,
  nonMaxSuppressionOps,
  rnnOps,
  detOps,
  fourierOps,
  gridSampleOps,
  roiOps,
  tfIdfOps,
  unpoolOps,
];

export const RARE_OPS: readonly Op[] = families.flat();
