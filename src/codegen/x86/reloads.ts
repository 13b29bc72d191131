// Variables in memory: which ones a step must have in a register, and which operand its instruction takes straight from memory.
import { OPERATIONS } from "./operations.ts";
import {
  type Operand,
  type Program,
  READS_BASE,
  READS_OPERAND,
  READS_VECTOR,
  type Reload,
  ROLE_BITS,
  ROLE_MASK,
  type Step,
  WRITES_INTEGER,
  WRITES_VECTOR,
} from "./steps.ts";
import type { Variable } from "./variables.ts";

/** After variables went to memory. */
export function planReloads(program: Program): void {
  for (const step of program.steps) {
    if (!touchesMemory(program, step)) continue;
    chooseOperand(program, step);
    step.reloads = reloadsOf(program, step);
  }
}

function touchesMemory({ uses, variables }: Program, step: Step): boolean {
  const { isSpilled } = variables;
  for (let i = step.uses; i < step.usesEnd; i++) if (isSpilled[uses[i] >> ROLE_BITS]) return true;
  return false;
}

function reloadsOf({ uses, variables }: Program, step: Step): readonly Reload[] | undefined {
  const reloads: Reload[] = [];
  for (let i = step.uses; i < step.usesEnd; i++) {
    const variable = uses[i] >> ROLE_BITS;
    const role = uses[i] & ROLE_MASK;
    const isFromMemory = (role === READS_OPERAND || role === READS_VECTOR) && variable === step.memoryVariable;
    // A constant in memory is never written: it comes from the constant pool.
    const isRead = (role === READS_OPERAND || role === READS_VECTOR || role === READS_BASE) && !isFromMemory;
    const isWritten = (role === WRITES_VECTOR && !variables.constants[variable]) || (role === WRITES_INTEGER && step.k !== "entry");
    if (!variables.isSpilled[variable] || !(isRead || isWritten)) continue;
    const known = reloads.find((r) => r.variable === variable);
    if (!known) reloads.push({ variable, register: -1, isRead, isWritten });
    else {
      known.isRead ||= isRead;
      known.isWritten ||= isWritten;
    }
  }
  return reloads.length ? reloads : undefined;
}

const OPERANDS: readonly Operand[] = ["c", "a", "b"];

function chooseOperand({ uses, variables, isAvx512 }: Program, step: Step): void {
  const { stmt, load } = step;
  if (stmt?.k !== "vec" || load) return;
  step.memory = undefined;
  step.memoryVariable = -1;
  const row = OPERATIONS[stmt.op];
  const used = uses.slice(step.uses, step.usesEnd);
  const operands = OPERANDS.filter((o) => stmt[o] && !(o === "c" && step.comparison)); // as they are among the uses
  for (const operand of row.memory) {
    const at = operands.indexOf(operand);
    if (at < 0) continue;
    const variable: Variable = used[at] >> ROLE_BITS;
    const isElsewhere = used.some((use, i) => i !== at && use >> ROLE_BITS === variable);
    if (!variables.isSpilled[variable] || isElsewhere) continue;
    if (variables.constants[variable] && isAvx512 && row.avx512.broadcast !== 4) continue;
    step.memory = operand;
    step.memoryVariable = variable;
    return;
  }
}
