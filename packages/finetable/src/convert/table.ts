/** Tables: npy to safetensors and back, f32 to f16 and back, in constant memory. */
import { writeNpy, writeSafetensors } from '@finetable/formats';
import type { ConvertOptions } from '../program.ts';
import type { Written } from './command.ts';
import { untilAborted } from './chunks.ts';
import { openTableSource } from './table-source.ts';

/** What a table is called where its file gives it no name. */
export const defaultTensor = 'embeddings';

export async function convertTable(
  input: string,
  output: string,
  to: 'safetensors' | 'npy',
  options: ConvertOptions,
  signal: AbortSignal,
): Promise<Written[]> {
  const fromNpy = input.endsWith('.npy');
  const source = await openTableSource(input, fromNpy ? undefined : options.tensor, options.dtype);
  const { dtype, shape } = source;
  const data = untilAborted(source.bytes, signal);
  if (to === 'npy') await writeNpy(output, { dtype, shape, data });
  else await writeSafetensors(output, [{ name: source.tensor ?? options.tensor ?? defaultTensor, dtype, shape, data }]);
  return [{ path: output, what: `${dtype} [${shape.join(', ')}]` }];
}
