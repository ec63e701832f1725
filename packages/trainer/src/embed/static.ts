/** Texts by a static embedding model, as its own library makes their vectors. */
import { FinetableError } from '@finetable/core';
import { openStaticModel, type StaticModel } from '@finetable/data';
import { loadAdapters, type Adapter } from '@finetable/lora';
import type { EmbeddedPart, Embedder, EmbedInput, EmbedOptions } from './embed.ts';

/** Texts at a time: enough to be quick, few enough to stop soon. */
const partTexts = 512;

export async function openStaticEmbedder(folder: string, options: EmbedOptions): Promise<Embedder> {
  if (options.normalize !== undefined)
    throw new FinetableError('INVALID_ARGUMENT', `embed: ${folder} is a static model, which says itself whether it normalises`); // prettier-ignore
  const model = await openStaticModel(folder);
  try {
    const [adapter] = options.adapter === undefined ? [] : await loadAdapters(options.adapter, [model.table]);
    return {
      dim: model.table.dim,
      reads: 'text',
      readsFiles: false,
      parts: (input) => encoded(model, adapter ?? null, input, options.signal),
      close: () => {
        adapter?.close();
        model.close();
        return Promise.resolve();
      },
    };
  } catch (error) {
    model.close();
    throw error;
  }
}

async function* encoded(
  model: StaticModel,
  adapter: Adapter | null,
  input: EmbedInput,
  signal: AbortSignal | undefined,
): AsyncGenerator<EmbeddedPart> {
  if (!('values' in input))
    throw new FinetableError('INVALID_ARGUMENT', `embed: ${model.folder} is a static model; allowed: texts, one a line`); // prettier-ignore
  let texts: string[] = [];
  let done = 0;
  const part = (): EmbeddedPart => {
    if (signal?.aborted) throw new FinetableError('INTERRUPTED', `embed: stopped before text ${done}`);
    const keys = texts;
    [texts, done] = [[], done + keys.length];
    return { keys, vectors: model.encode(keys, adapter) };
  };
  for await (const text of input.values) {
    if (typeof text !== 'string')
      throw new FinetableError('INVALID_ARGUMENT', `embed: found ${JSON.stringify(text)}; allowed: a text`);
    texts.push(text);
    if (texts.length === partTexts) yield part();
  }
  if (texts.length > 0) yield part();
}
