// Long sums of columns are gradients of biases: in browsers a thread has one column.
export const sumColumns = (): null => null;
