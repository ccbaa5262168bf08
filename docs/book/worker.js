// The search of the book runs in a worker, and browsers start none from the file system. There, a frame does its work.
// scripts/book.py puts this into each page in front of Material's own script.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #waiting = [];

    constructor(url) {
      super();
      this.#frame.hidden = true;
      document.body.append(this.#frame);
      this.#frame.contentDocument.open();
      this.#frame.contentDocument.write("<!doctype html><body></body>");
      this.#frame.contentDocument.close();
      const inside = this.#frame.contentWindow;
      const load = (address) =>
        new Promise((done, fail) => {
          const script = inside.document.createElement("script");
          script.src = address;
          script.onload = done;
          script.onerror = fail;
          inside.document.body.append(script);
        });
      inside.postMessage = (data) => this.#tell(data);
      inside.importScripts = (...addresses) =>
        addresses.reduce((before, address) => before.then(() => load(address)), Promise.resolve());
      load(new URL(url, document.baseURI).href).then(() => {
        const waiting = this.#waiting;
        this.#waiting = null;
        waiting.forEach((data) => this.postMessage(data));
      });
    }

    postMessage(data) {
      if (this.#waiting) this.#waiting.push(data);
      else this.#frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }

    terminate() {
      this.#frame.remove();
    }

    #tell(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      this.onmessage?.(event);
    }
  };
}
