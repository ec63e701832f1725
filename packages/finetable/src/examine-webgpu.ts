/**
 * A program of `finetable doctor`: prints what WebGPU has here, or why nothing, as JSON. In a process of its own, since a broken driver may end
 * it, and Dawn writes to its standard error.
 */
import { toPlainError } from '@finetable/core';
import { examineWebgpu } from '@finetable/webgpu';

process.stdout.write(JSON.stringify(await examineWebgpu().catch(toPlainError)));
