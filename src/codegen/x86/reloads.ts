// Variables in memory: which ones a step must have in a register, and which operand its instruction takes straight from memory.
import { READS_BASE, READS_OPERAND, READS_VECTOR, ROLE_BITS, ROLE_MASK, WRITES_INTEGER, WRITES_VECTOR } from "./lifetimes.ts";
import { OPERATIONS } from "./operations.ts";
import type { Operand, Program, Reload, Step } from "./program.ts";
import type { Variable } from "./variables.ts";

/** After variables went to memory. */
export function planReloads(program: Program): void {
  const { steps, uses, variables } = program;
  for (let i = 0; i < steps.length; i++) {
    const step = steps[i];
    for (let at = step.uses; at < step.usesEnd; at++) {
      if (variables.isSpilled[uses[at] >> ROLE_BITS] === 0) continue;
      chooseOperand(program, step);
      step.reloads = reloadsOf(program, step);
      break;
    }
  }
}

function reloadsOf({ uses, variables }: Program, step: Step): readonly Reload[] | undefined {
  let reloads: Reload[] | undefined;
  for (let i = step.uses; i < step.usesEnd; i++) {
    const variable = uses[i] >> ROLE_BITS;
    if (variables.isSpilled[variable] === 0 || variable === step.memoryVariable) continue;
    const role = uses[i] & ROLE_MASK;
    const isRead = role === READS_OPERAND || role === READS_VECTOR || role === READS_BASE;
    // A constant in memory is never written: it comes from the constant pool.
    const isWritten = (role === WRITES_VECTOR && !variables.constants[variable]) || (role === WRITES_INTEGER && step.k !== "entry");
    if (!isRead && !isWritten) continue;
    reloads ??= [];
    const known = reloads.find((r) => r.variable === variable);
    if (!known) reloads.push({ variable, register: -1, isRead, isWritten });
    else {
      known.isRead ||= isRead;
      known.isWritten ||= isWritten;
    }
  }
  return reloads;
}

/** Operands in the order of their uses. */
const OPERANDS: readonly Operand[] = ["c", "a", "b"];

function chooseOperand(program: Program, step: Step): void {
  const { stmt, load } = step;
  if (stmt?.k !== "vec" || load) return;
  step.memory = undefined;
  step.memoryVariable = -1;
  const row = OPERATIONS[stmt.op];
  let rank = row.memory.length;
  let at = step.uses;
  for (let i = 0; i < OPERANDS.length; i++) {
    const operand = OPERANDS[i];
    if (!stmt[operand] || (operand === "c" && step.comparison)) continue;
    const preference = row.memory.indexOf(operand);
    const variable = program.uses[at] >> ROLE_BITS;
    if (preference >= 0 && preference < rank && canComeFromMemory(program, step, at)) {
      rank = preference;
      step.memory = operand;
      step.memoryVariable = variable;
    }
    at++;
  }
}

/** Whether the use is of a variable in memory that the step uses nowhere else. */
function canComeFromMemory({ uses, variables, isAvx512 }: Program, step: Step, at: number): boolean {
  const variable: Variable = uses[at] >> ROLE_BITS;
  if (variables.isSpilled[variable] === 0) return false;
  for (let i = step.uses; i < step.usesEnd; i++) if (i !== at && uses[i] >> ROLE_BITS === variable) return false;
  const isRepeated = isAvx512 && variables.constants[variable] !== undefined;
  return !isRepeated || step.stmt?.k !== "vec" || OPERATIONS[step.stmt.op].avx512.broadcast === 4;
}
