/** Update rules for tests: what the planner needs of them is the state that they keep. */
import type { UpdateRule } from '@finetable/kernels';

const common = { learningRate: 0.1, weightDecay: 0, decay: 'l2' } as const;

export const rules = {
  sgd: { ...common, type: 'sgd', momentum: 0 },
  momentum: { ...common, type: 'sgd', momentum: 0.9 },
  adagrad: { ...common, type: 'adagrad', epsilon: 1e-10 },
  'rowwise-adagrad': { ...common, type: 'rowwise-adagrad', epsilon: 1e-10 },
  adam: { ...common, type: 'adam', beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
} satisfies Readonly<Record<string, UpdateRule>>;
