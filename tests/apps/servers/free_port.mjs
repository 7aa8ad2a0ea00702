// free_port.mjs PACKAGE PORT: what a package that looks for a free port makes of one.
import { createRequire } from 'node:module';
const [name, text] = process.argv.slice(2);
const port = Number(text);
const require = createRequire(process.cwd() + '/');
const found = {
    'detect-port': async () => (await import(require.resolve(name))).detect(port),
    'get-port': async () => (await import(require.resolve(name))).default({ port: [port, port + 1, port + 2] }),
    'portfinder': async () => require(name).getPortPromise({ port }),
}[name];
console.log(await found());
