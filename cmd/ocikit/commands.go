package main

// commands returns the table of commands, in the order of help.
func commands() []Command {
	table := []Command{
		tarCommand(), retarCommand(), gzipCommand(), digestCommand(), diffidCommand(), diffCommand(), layerCommand(),
		configCommand(), manifestCommand(), indexCommand(),
		initCommand(), putCommand(), catCommand(), tagCommand(), untagCommand(), lsCommand(),
		resolveCommand(), layersCommand(), inspectCommand(), filesCommand(), verifyCommand(),
		gcCommand(), copyCommand(),
	}
	table = append(table, appendCommand(), mutateCommand(), rebaseCommand(), flattenCommand())
	table = append(table, exportCommand(), extractCommand())
	table = append(table, saveCommand(), loadCommand())
	table = append(table, inventoryCommand(), bundleCommand(), unbundleCommand(), splitCommand(), joinCommand())
	table = append(table, pushCommand(), pullCommand())
	table = append(table, uploadCommands()...)
	table = append(table, registryCommands()...)
	return append(table, serveCommand(), helpCommand(), completionCommand(), versionCommand())
}
