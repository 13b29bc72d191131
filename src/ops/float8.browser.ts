// Conversions of float8 numbers: browsers have none.

export function fromFloat8(): void {}
export function toFloat8(): void {}
