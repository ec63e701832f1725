/** Fields that several parts of a job's schema have. */
import { isFinetableError, parseBytes } from '@finetable/core';
import { z } from 'zod';

/** Names that become file names and object keys. */
export const name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'letters, digits, ".", "_" and "-", starting with a letter or digit');
export const count = z.int().min(1);
export const seed = z.int().min(0);

/** Bytes, or text such as `"8GiB"`; with a total also a share of it, `"75%"`. */
export const sizeOf = (total?: number) =>
  z.union([z.number(), z.string()]).superRefine((value, context) => {
    try {
      parseBytes(value, '', total);
    } catch (error) {
      if (!isFinetableError(error)) throw error;
      context.addIssue({ code: 'custom', message: error.message.replace(/^: /, '') });
    }
  });
