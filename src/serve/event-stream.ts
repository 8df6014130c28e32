/**
 * Server-sent events of a reply that is still being sampled.
 *
 * The events wait in memory for a client that reads slowly; the limit on tokens bounds them. When the client goes
 * away the sampling is cancelled. An error after the first event is an event itself, and the last.
 */

export interface EventStream {
  body: ReadableStream<Uint8Array>;
  send(event: object): void;
  /** Writes the mark that OpenAI's clients end at. */
  end(): void;
}

/** `onCancel`: nobody reads any more. */
export function makeEventStream(onCancel: () => void): EventStream {
  const encoder = new TextEncoder();
  let isOpen = true;
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  const body = new ReadableStream<Uint8Array>({
    start: (opened) => {
      controller = opened;
    },
    cancel: () => {
      isOpen = false;
      onCancel();
    },
  });
  const write = (data: string): void => {
    if (isOpen) controller?.enqueue(encoder.encode(`data: ${data}\n\n`));
  };
  return {
    body,
    send: (event) => write(JSON.stringify(event)),
    end: () => {
      write('[DONE]');
      if (isOpen) controller?.close();
      isOpen = false;
    },
  };
}
