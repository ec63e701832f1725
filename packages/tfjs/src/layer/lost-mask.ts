/**
 * Keras 2 raises an error where a mask meets a layer that does not support masks. tfjs raises it too, but `fit` and `predict` never ask
 * such a layer, so there the mask ends without a word.
 */
import type { layers } from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import { refuse } from './check.ts';

type Layer = layers.Layer;

/** @throws INVALID_ARGUMENT naming the first layer that would lose the mask that `masked` makes */
export function refuseLostMask(masked: Layer): void {
  const seen = new Set<Layer>();
  const readers = [masked];
  for (const layer of readers) {
    for (const { outboundLayer } of layer.outboundNodes) {
      if (seen.has(outboundLayer)) continue;
      seen.add(outboundLayer);
      if (!outboundLayer.supportsMasking) {
        const { name } = outboundLayer;
        const message = `maskZero makes a mask, which layer "${name}" (${outboundLayer.getClassName()}) does not support and would lose; allowed: layers that support masks in between (lstm, gru, ...), or maskZero: false`;
        refuse(`${masked.name}: ${message}`, { layer: masked.name, reader: name });
      }
      if (passesMaskOn(outboundLayer)) readers.push(outboundLayer);
    }
  }
}

/** Others, as a recurrent layer that returns its last output, end a mask by using it. */
function passesMaskOn(layer: Layer): boolean {
  const asItIs = layer.computeMask === tf.layers.Layer.prototype.computeMask;
  return asItIs || (layer as { returnSequences?: unknown }).returnSequences === true;
}
