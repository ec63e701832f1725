/** Tables: npy to safetensors and back, f32 to f16 and back, in constant memory. */
import { writeNpy, writeSafetensors } from '@finetable/formats';
import type { ConvertOptions } from '../program.ts';
import type { Written } from './command.ts';
import { openTableSource } from './table-source.ts';

/** What a table is called where its file gives it no name. */
export const defaultTensor = 'embeddings';

export async function convertTable(input: string, output: string, to: 'safetensors' | 'npy', options: ConvertOptions): Promise<Written[]> {
  const fromNpy = input.endsWith('.npy');
  const source = await openTableSource(input, fromNpy ? undefined : options.tensor, options.dtype);
  const { dtype, shape, bytes: data } = source;
  if (to === 'npy') await writeNpy(output, { dtype, shape, data });
  else await writeSafetensors(output, [{ name: source.tensor ?? options.tensor ?? defaultTensor, dtype, shape, data }]);
  return [{ path: output, what: `${dtype} [${shape.join(', ')}]` }];
}
