/** `0, 1, … count - 1` as `[count] i32`: all rows of a table, all slots of an adapter. A loop: `Int32Array.from` calls back per value. */
export function range(count: number): Int32Array {
  const values = new Int32Array(count);
  for (let i = 0; i < count; i++) values[i] = i;
  return values;
}
