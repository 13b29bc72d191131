// Browsers run networks whose weights are constants: these lie in the kernel's order.
export const spreadBytes = (): number => 0;
export class SpreadCode {
  put(): number {
    return 0;
  }
}
