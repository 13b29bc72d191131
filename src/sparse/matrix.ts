// Any sparse matrix, and a walk over what it stores.
import { type Bitmap, visitBitmap } from "./bitmap.ts";
import { type Bsr, visitBsr } from "./bsr.ts";
import type { Coo } from "./coo.ts";
import { type Csb, visitCsb } from "./csb.ts";
import { type Csc, visitCsc } from "./csc.ts";
import { type Csr, visitCsr } from "./csr.ts";
import { type Nibble, visitNibble } from "./nibble.ts";
import { type TwoFour, visitTwoFour } from "./two_four.ts";
import type { Visit } from "./visit.ts";

export type SparseMatrix = Coo | Csr | Csc | Bsr | TwoFour | Csb | Bitmap | Nibble;

/** What errors call a format. */
export const FORMAT_NAMES: Readonly<Record<SparseMatrix["kind"], string>> = {
  coo: "COO",
  csr: "CSR",
  csc: "CSC",
  bsr: "BSR",
  "2:4": "2:4",
  csb: "CSB",
  bitmap: "bitmap CSB",
  nibble: "nibble CSB",
};

/** All stored elements in the order of the format: nonzeros, and where whole blocks or pairs are stored their zeros; never places outside the matrix. */
export function visitStored(m: SparseMatrix, visit: Visit): void {
  switch (m.kind) {
    case "coo":
      for (let i = 0; i < m.values.length; i++) visit(m.row[i], m.column[i], i);
      break;
    case "csr":
      visitCsr(m, visit);
      break;
    case "csc":
      visitCsc(m, visit);
      break;
    case "bsr":
      visitBsr(m, visit);
      break;
    case "2:4":
      visitTwoFour(m, visit);
      break;
    case "csb":
      visitCsb(m, visit);
      break;
    case "bitmap":
      visitBitmap(m, visit);
      break;
    case "nibble":
      visitNibble(m, visit);
      break;
    default:
      m satisfies never;
  }
}
