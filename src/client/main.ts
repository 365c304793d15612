process.stderr.write("ChatClient: not built yet\n");
process.exit(1);
