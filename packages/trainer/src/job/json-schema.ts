/** The schema of a job as JSON Schema (draft 2020-12), for editors and other programs. */
import { z } from 'zod';
import { batchSchema } from '../batch/schema.ts';
import { jobSchema } from './schema.ts';

/**
 * The JSON Schema of a job file as it is written, with descriptions and defaults. It has no more than a job's form: that a feature's table is there,
 * for one, only `checkJob` sees. `@finetable/trainer/job.schema.json` is the same as a file.
 */
export function jobJsonSchema(): Readonly<Record<string, unknown>> {
  return { title: 'Finetable job', ...toJsonSchema(jobSchema) };
}

/** The same of a batch file; `@finetable/trainer/batch.schema.json`. */
export function batchJsonSchema(): Readonly<Record<string, unknown>> {
  return { title: 'Finetable batch', ...toJsonSchema(batchSchema) };
}

function toJsonSchema(schema: z.ZodType): Record<string, unknown> {
  return z.toJSONSchema(schema, {
    io: 'input',
    override: ({ jsonSchema }) => {
      // Every integer has it, and it helps nobody.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
      // Factors without a kind are LoRA's.
      const kind = jsonSchema.properties?.kind;
      if (typeof kind === 'object' && kind.const === 'lora')
        jsonSchema.required = jsonSchema.required!.filter((name) => name !== 'kind');
    },
  });
}
