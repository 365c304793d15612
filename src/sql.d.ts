// An SQL file imported with { type: "text" } is its text, embedded by the build.
declare module "*.sql" {
  const text: string;
  export default text;
}
