/** What a thread of a batch runs: one job at a time, in its folder. */
import { toPlainError } from '@finetable/core';
import type { TrainingEvent } from '../fit.ts';
import { runJob } from '../run/run.ts';
import type { JobMessage, JobReply, JobRequest } from './protocol.ts';

/** Ticks come with every step; a person cannot read more of them. */
const tickMilliseconds = 100;

export default async function runRequest({ loaded, folder, existing, until, port }: JobRequest): Promise<JobReply> {
  const interrupt = new AbortController();
  port.on('message', () => interrupt.abort());
  const send = (message: JobMessage): void => port.postMessage(message);
  let ticked = -Infinity;
  let last = Infinity;
  const onEvent = (event: TrainingEvent): void => {
    if (event.type === 'start' && until)
      last = 'steps' in until ? until.steps : until.epochs * (event.stepsPerEpoch ?? Infinity);
    // The step after the rung: what belongs to that, an evaluation with it, is done.
    if (event.type === 'tick' && event.step > last) interrupt.abort();
    const now = performance.now();
    if (event.type === 'tick' && now - ticked < tickMilliseconds) return;
    if (event.type === 'tick') ticked = now;
    send({ type: 'training', event });
  };
  try {
    const result = await runJob(loaded, {
      folder,
      existing,
      signal: interrupt.signal,
      // Charts are loaded once, by the thread that started the batch.
      report: false,
      onEvent,
      onNote: (note) => send({ type: 'note', note }),
    });
    return { type: 'finished', result };
  } catch (error) {
    return { type: 'failure', error: toPlainError(error) };
  } finally {
    port.close();
  }
}
