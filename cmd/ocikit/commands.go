package main

// commands returns the table of commands, in the order of help.
func commands() []Command {
	table := []Command{
		tarCommand(), retarCommand(), gzipCommand(), digestCommand(), diffidCommand(), diffCommand(), layerCommand(),
		configCommand(), manifestCommand(), indexCommand(),
		initCommand(), putCommand(), catCommand(), tagCommand(), untagCommand(), lsCommand(),
		resolveCommand(), layersCommand(), inspectCommand(), verifyCommand(),
	}
	table = append(table, pushCommand())
	table = append(table, uploadCommands()...)
	table = append(table, registryCommands()...)
	return append(table, serveCommand(), helpCommand(), completionCommand(), versionCommand())
}
