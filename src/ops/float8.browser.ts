// Conversions of float8 numbers: browsers have none.

export function castFloat8(): void {}
export function checkZero(): void {}
export function fromFloat8(): void {}
export function toFloat8(): void {}
