/** The part of cli-progress that is used; it comes without types. */
declare module 'cli-progress' {
  export interface MultiBarOptions {
    readonly stream: NodeJS.WritableStream;
    readonly format: () => string;
    readonly clearOnComplete: boolean;
    readonly hideCursor: boolean;
    readonly linewrap: boolean;
    readonly fps: number;
    readonly gracefulExit: boolean;
  }
  export class MultiBar {
    constructor(options: MultiBarOptions);
    create(total: number, start: number): unknown;
    log(text: string): void;
    update(): void;
    stop(): void;
  }
}
