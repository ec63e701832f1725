/** Tests that every kind of device passes. */
export { testAdaptersOnDevice } from './device-adapters.ts';
export { testRowsOnDevice } from './device-rows.ts';
export type { DeviceSubject } from './device-subject.ts';
